// A sweep over methods: means, costs, and each method less the baseline.
#include <cmath>

#include "analysis/report/html_sections.h"
#include "analysis/report/number_format.h"
#include "analysis/report/svg_figure.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::analysis::report {
namespace {

// "24.0 MB (20.1 MB … 31.0 MB)" where trials of a method differ.
std::string CostText(const MethodCost& cost, CostUnit unit) {
  if (cost.n == 0) return "–";
  if (cost.low == cost.high) return FormatCost(cost.mean, unit);
  return fmt::format("{} ({} … {})", FormatCost(cost.mean, unit), FormatCost(cost.low, unit),
                     FormatCost(cost.high, unit));
}

std::string ParetoText(std::optional<bool> on_front) {
  if (!on_front) return "not judged";
  return *on_front ? fmt::format("{} yes", kParetoMark) : "no";
}

std::string MethodMeansTable(const HtmlContext& context, const MethodComparison& comparison) {
  std::vector<std::string> titles = {
      comparison.factor, "settings", "trials", "mean", fmt::format("{:g} % interval", 100 * comparison.confidence),
      "best setting",    "its mean"};
  titles.insert(titles.end(), comparison.cost_titles.begin(), comparison.cost_titles.end());
  const bool marked = !comparison.pareto_of.empty();
  if (marked) titles.insert(titles.begin() + 1, "Pareto front");  // beside the name: the costs may be out of sight
  std::string out = fmt::format(
      "<div class=\"wide\"><table id=\"methods-means\"><caption>{} of each method over its own settings; costs are means "
      "per trial, with the least and the most.</caption>\n{}",
      EscapeHtml(context.Title()), TableHead(titles));
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
    for (size_t i = 0; i < method.costs.size(); ++i)
      cells.push_back(CostText(method.costs[i], comparison.cost_units[i]));
    if (marked) cells.insert(cells.begin(), ParetoText(method.on_pareto_front));
    out += TableRow(method.method, cells);
  }
  return out + "</tbody></table></div>\n";
}

std::string BaselineTable(const MethodComparison& comparison, const std::string& id, const std::string& baseline,
                          const std::vector<stats::Comparison>& with_baseline) {
  if (with_baseline.empty()) return "";
  std::string out = fmt::format("<h3>Less {}</h3>\n<div class=\"wide\"><table id=\"{}\">\n{}", EscapeHtml(baseline), id,
                                TableHead({comparison.factor, "difference", "std. error",
                                           fmt::format("{:g} % interval (together)", 100 * comparison.confidence), "p",
                                           "p (Dunnett)", "p (Holm)"}));
  for (const stats::Comparison& pair : with_baseline) {
    if (!pair.estimable) {
      out +=
          fmt::format("<tr><th scope=\"row\">{}</th><td colspan=\"6\" class=\"l soft\">not estimable: {}</td></tr>\n",
                      EscapeHtml(pair.first), EscapeHtml(pair.reason));
      continue;
    }
    out += TableRow(pair.first, {FormatNumber(pair.difference, 3), FormatNumber(pair.std_error, 3),
                                 FormatInterval(pair.low, pair.high, 3), FormatP(pair.p),
                                 std::isnan(pair.p_dunnett) ? "–" : FormatP(pair.p_dunnett), FormatP(pair.p_holm)});
  }
  return out + "</tbody></table></div>\n";
}

std::string EqualMeansSentence(const stats::JointTest& equal, double residual_df) {
  if (!(equal.df > 0) || std::isnan(equal.f)) return "";
  return Paragraph(fmt::format("All these means equal: F = {} on {} and {} degrees of freedom, p {}{}.",
                               FormatNumber(equal.f), FormatCount(equal.df), FormatCount(residual_df),
                               FormatP(equal.p).starts_with('<') ? "" : "= ", FormatP(equal.p)));
}

std::string EqualParametersPart(const MethodComparison& comparison) {
  if (!comparison.at_equal_parameters) return "";
  const EqualParameters& equal = *comparison.at_equal_parameters;
  std::string out = fmt::format("<h3>At {} trained parameters, give or take {:g} %</h3>\n",
                                FormatAmount(equal.budget.parameters), 100 * equal.budget.tolerance);
  if (!equal.methods.empty()) {
    out += fmt::format(
        "<div class=\"wide\"><table id=\"methods-equal\"><caption>Means over the settings of that size, each with the "
        "same weight.</caption>\n{}",
        TableHead({comparison.factor, "settings", "parameters", "mean",
                   fmt::format("{:g} % interval", 100 * comparison.confidence)}));
    for (const MethodAtBudget& method : equal.methods) {
      const std::string settings = fmt::format("{}", fmt::join(method.settings, "; "));
      out += TableRow(method.method, {settings.empty() ? "–" : settings,
                                      method.least == method.most ? FormatAmount(method.least)
                                                                  : fmt::format("{} … {}", FormatAmount(method.least),
                                                                                FormatAmount(method.most)),
                                      method.mean.estimable ? FormatNumber(method.mean.mean) : "not estimable",
                                      method.mean.estimable ? FormatInterval(method.mean.low, method.mean.high) : "–"});
    }
    out += "</tbody></table></div>\n";
  }
  out += EqualMeansSentence(equal.equal, comparison.df);
  out += BaselineTable(comparison, "methods-equal-baseline", equal.baseline, equal.with_baseline);
  for (const std::string& sentence : equal.sentences) out += Paragraph(sentence, "soft");
  return out;
}

}  // namespace

HtmlSection MethodComparisonSection(const HtmlContext& context) {
  HtmlSection section{"method-comparison", "Methods compared", ""};
  if (context.analysis().details == nullptr || !context.analysis().details->methods) return section;
  const MethodComparison& comparison = *context.analysis().details->methods;
  section.body = MethodMeansTable(context, comparison);
  section.body += EqualMeansSentence(comparison.equal, comparison.df);
  section.body += BaselineTable(comparison, "methods-baseline", comparison.baseline, comparison.with_baseline);
  for (const std::string& sentence : comparison.sentences) section.body += Paragraph(sentence, "soft");
  section.body += EqualParametersPart(comparison);
  return section;
}

}  // namespace loupe::analysis::report
