// A sweep over methods: means, costs, and each method less the baseline.
#include <cmath>

#include "analysis/report/html_sections.h"
#include "analysis/report/number_format.h"
#include "analysis/report/svg_figure.h"
#include "fmt/format.h"

namespace loupe::analysis {
namespace {

std::string HeadOf(const std::vector<std::string>& titles) {
  std::string out = "<thead><tr>";
  for (const std::string& title : titles) out += fmt::format("<th scope=\"col\">{}</th>", EscapeHtml(title));
  return out + "</tr></thead>\n<tbody>\n";
}

std::string RowOf(const std::string& name, const std::vector<std::string>& cells) {
  std::string out = fmt::format("<tr><th scope=\"row\">{}</th>", EscapeHtml(name));
  for (const std::string& cell : cells) out += fmt::format("<td>{}</td>", EscapeHtml(cell));
  return out + "</tr>\n";
}

// "1.2e+03 (900 … 1500)" where trials of a method differ.
std::string CostText(const MethodCost& cost) {
  if (cost.n == 0) return "–";
  if (cost.low == cost.high) return FormatNumber(cost.mean);
  return fmt::format("{} ({} … {})", FormatNumber(cost.mean, 3), FormatNumber(cost.low, 3), FormatNumber(cost.high, 3));
}

std::string MethodMeansTable(const HtmlContext& context, const MethodComparison& comparison) {
  std::vector<std::string> titles = {
      comparison.factor, "settings", "trials", "mean", fmt::format("{:g} % interval", 100 * comparison.confidence),
      "best setting",    "its mean"};
  titles.insert(titles.end(), comparison.cost_titles.begin(), comparison.cost_titles.end());
  std::string out = fmt::format(
      "<div class=\"wide\"><table id=\"methods-means\"><caption>{} of each method over its own settings; costs are means "
      "per trial, with the least and the most.</caption>\n{}",
      EscapeHtml(context.Title()), HeadOf(titles));
  for (const MethodSummary& method : comparison.methods) {
    std::string best;
    for (size_t i = 0; i < method.best_levels.size(); ++i)
      best += fmt::format("{}{} {}", i == 0 ? "" : ", ", method.own_factors[i], method.best_levels[i]);
    std::vector<std::string> cells = {fmt::format("{}", method.settings),
                                      fmt::format("{}", method.trials),
                                      method.mean.estimable ? FormatNumber(method.mean.mean) : "not estimable",
                                      method.mean.estimable ? FormatInterval(method.mean.low, method.mean.high) : "–",
                                      best.empty() ? "–" : best,
                                      FormatNumber(method.best.mean)};
    for (const MethodCost& cost : method.costs) cells.push_back(CostText(cost));
    out += RowOf(method.method, cells);
  }
  return out + "</tbody></table></div>\n";
}

std::string MethodBaselineTable(const MethodComparison& comparison) {
  std::string out = fmt::format(
      "<h3>Less {}</h3>\n<div class=\"wide\"><table id=\"methods-baseline\">\n{}", EscapeHtml(comparison.baseline),
      HeadOf({comparison.factor, "difference", "std. error",
              fmt::format("{:g} % interval (together)", 100 * comparison.confidence), "p", "p (Dunnett)", "p (Holm)"}));
  for (const Comparison& pair : comparison.with_baseline) {
    if (!pair.estimable) {
      out +=
          fmt::format("<tr><th scope=\"row\">{}</th><td colspan=\"6\" class=\"l soft\">not estimable: {}</td></tr>\n",
                      EscapeHtml(pair.first), EscapeHtml(pair.reason));
      continue;
    }
    out += RowOf(pair.first, {FormatNumber(pair.difference, 3), FormatNumber(pair.std_error, 3),
                              FormatInterval(pair.low, pair.high, 3), FormatP(pair.p),
                              std::isnan(pair.p_dunnett) ? "–" : FormatP(pair.p_dunnett), FormatP(pair.p_holm)});
  }
  return out + "</tbody></table></div>\n";
}

}  // namespace

HtmlSection MethodComparisonSection(const HtmlContext& context) {
  HtmlSection section{"method-comparison", "Methods compared", ""};
  if (context.analysis().details == nullptr || !context.analysis().details->methods) return section;
  const MethodComparison& comparison = *context.analysis().details->methods;
  section.body = MethodMeansTable(context, comparison);
  const JointTest& equal = comparison.equal;
  if (equal.df > 0 && !std::isnan(equal.f)) {
    section.body += Paragraph(fmt::format("All these means equal: F = {} on {} and {} degrees of freedom, p {}{}.",
                                          FormatNumber(equal.f), FormatCount(equal.df), FormatCount(comparison.df),
                                          FormatP(equal.p).starts_with('<') ? "" : "= ", FormatP(equal.p)));
  }
  if (!comparison.with_baseline.empty()) section.body += MethodBaselineTable(comparison);
  for (const std::string& sentence : comparison.sentences) section.body += Paragraph(sentence, "soft");
  return section;
}

}  // namespace loupe::analysis
