#include <algorithm>
#include <cmath>

#include "analysis/report/anova_format.h"
#include "analysis/report/html_sections.h"
#include "analysis/report/number_format.h"
#include "analysis/report/reached_power.h"
#include "analysis/report/svg_figure.h"
#include "analysis/report/untuned_base.h"
#include "analysis/stats/nesting.h"
#include "fmt/format.h"

namespace loupe::analysis::report {
namespace {

constexpr size_t kCellsInPage = 15;

std::string Row(const std::vector<std::string>& cells, std::string_view cls = "") {
  std::string out = cls.empty() ? "<tr>" : fmt::format("<tr class=\"{}\">", cls);
  for (size_t i = 0; i < cells.size(); ++i) {
    out += i == 0 ? fmt::format("<th scope=\"row\">{}</th>", cells[i]) : fmt::format("<td>{}</td>", cells[i]);
  }
  return out + "</tr>\n";
}

std::string Head(const std::vector<std::string>& cells) {
  std::string out = "<thead><tr>";
  for (const std::string& cell : cells) {
    out += fmt::format("<th scope=\"col\"{}>{}</th>", cell == "message" ? " class=\"l\"" : "", cell);
  }
  return out + "</tr></thead>\n";
}

std::string PWithStars(double p) {
  const std::string_view stars = SignificanceStars(p);
  return EscapeHtml(FormatP(p)) + (stars.empty() ? "" : fmt::format("<span class=\"stars\">{}</span>", stars));
}

// Partial η² as a bar with its interval as a whisker, on [0, 1].
std::string EffectBar(const stats::EffectSize& effect) {
  if (std::isnan(effect.partial_eta_sq)) return "–";
  constexpr double kWidth = 130, kHeight = 16;
  SvgFigure figure(kWidth, kHeight, fmt::format("partial eta squared {}", FormatNumber(effect.partial_eta_sq, 3)), "");
  figure.Line(0.5, 1, 0.5, kHeight - 1, "axis");
  figure.Rect(0, 4, std::max(1.0, effect.partial_eta_sq * kWidth), 8, "bar");
  if (!std::isnan(effect.partial_eta_sq_low) && !std::isnan(effect.partial_eta_sq_high)) {
    figure.Line(effect.partial_eta_sq_low * kWidth, 8, effect.partial_eta_sq_high * kWidth, 8, "ci");
  }
  return figure.Html();
}

// What the tests could have found, beside what they found.
std::string PowerTable(const FactorialAnalysis& analysis) {
  const std::vector<ReachedPower> power = ComputeReachedPower(analysis.anova);
  if (power.empty()) return "";
  std::string out = fmt::format(
      "<h3>What these trials could find</h3>\n<p>Effects as Cohen's f. A term whose found f is well below the smallest "
      "that so "
      "many trials detect (with probability {:g} at the level {:g}) may still have an effect: there were too few "
      "trials to "
      "tell.</p>\n<div class=\"wide\"><table id=\"power\">\n",
      kPowerAsked, kPowerAlpha);
  out +=
      Head({"term", "f found", "smallest f detected", fmt::format("power for f = {:g}", kMediumEffect)}) + "<tbody>\n";
  for (const ReachedPower& row : power) {
    out += Row({EscapeHtml(row.term), FormatNumber(row.found_f, 3), FormatNumber(row.detectable_f, 3),
                std::isnan(row.power_of_medium) ? "–" : fmt::format("{:.2f}", row.power_of_medium)});
  }
  return out + "</tbody></table></div>\n";
}

std::string MultiFactorTable(const HtmlContext& context) {
  const stats::AnovaTable& anova = context.analysis().anova;
  std::string out = fmt::format(
      "<div class=\"wide\"><table id=\"anova\"><caption>{} on {}, Type {} sums of squares. Bars: partial η² with its "
      "{:g} % interval, from 0 to 1.</caption>\n",
      EscapeHtml(context.Title()), EscapeHtml(anova.formula), SumOfSquaresName(anova.ss_type),
      100 * context.analysis().confidence);
  out +=
      Head({"term", "df", "sum of squares", "mean square", "F", "p", "partial η²", "interval", "ω²", ""}) + "<tbody>\n";
  for (const stats::AnovaTerm& term : anova.terms) {
    const stats::EffectSize& effect = term.effect;
    std::string df = FormatCount(term.df);
    if (term.df != term.nominal_df)
      df += fmt::format(" <span class=\"soft\">of {}</span>", FormatCount(term.nominal_df));
    std::string name = EscapeHtml(term.term);
    if (term.is_block) name += " <span class=\"soft\">(block)</span>";
    if (stats::NestedTermName(term.term, term.within) != term.term)
      name += fmt::format(" <span class=\"soft\">in {}</span>", EscapeHtml(term.within));
    if (!term.estimable) name += " <span class=\"soft\">(not estimable)</span>";
    out += Row({name, df, FormatNumber(term.sum_sq), FormatNumber(term.mean_sq), FormatNumber(term.f),
                PWithStars(term.p), FormatNumber(effect.partial_eta_sq, 3),
                FormatInterval(effect.partial_eta_sq_low, effect.partial_eta_sq_high, 3),
                FormatNumber(effect.omega_sq, 3), EffectBar(effect)},
               term.is_block ? "resid" : "");
  }
  out += Row({"residual", FormatCount(anova.residual.df), FormatNumber(anova.residual.sum_sq),
              FormatNumber(anova.residual.mean_sq), "", "", "", "", "", ""},
             "resid");
  out += Row({"total", FormatCount(anova.total_df), FormatNumber(anova.total_sum_sq), "", "", "", "", "", "", ""},
             "resid");
  out += "</tbody></table></div>\n";
  return out + "<p class=\"soft\">*** p &lt; 0.001, ** p &lt; 0.01, * p &lt; 0.05.</p>\n";
}

std::string OneWayTable(const HtmlContext& context) {
  std::string out =
      "<h3>Each factor by itself</h3>\n<p>One-way F, mean square between the levels over mean square within, as in the "
      "adapter design-space paper (arXiv 2303.18181). What two confounded factors share is counted for both here. "
      "Welch's test allows unequal spread, Kruskal and Wallis' (K–W) goes by ranks.</p>\n"
      "<div class=\"wide\"><table id=\"one-way\">\n";
  out += Head({"factor", "df between", "mean square between", "df within", "mean square within", "F", "p", "R²",
               "p Welch", "p K–W"}) +
         "<tbody>\n";
  for (size_t i = 0; i < context.analysis().one_way.size(); ++i) {
    const stats::OneWayResult& row = context.analysis().one_way[i];
    const RobustTests& robust = context.analysis().robust[i];
    out += Row({EscapeHtml(row.factor), FormatCount(row.between_df), FormatNumber(row.between_mean_sq),
                FormatCount(row.within_df), FormatNumber(row.within_mean_sq), FormatNumber(row.f), PWithStars(row.p),
                FormatNumber(row.r_squared, 3), robust.welch ? EscapeHtml(FormatP(robust.welch->p)) : "–",
                robust.kruskal_wallis ? EscapeHtml(FormatP(robust.kruskal_wallis->p)) : "–"});
  }
  return out + "</tbody></table></div>\n";
}

// Differences of averages over trees may fall a rounding below 0.
std::string Percent(double share) {
  return std::isnan(share) ? "–" : fmt::format("{:.1f} %", share > -0.0005 ? std::max(0.0, 100 * share) : 100 * share);
}

std::string ShareBar(double share) {
  constexpr double kWidth = 130, kHeight = 16;
  SvgFigure figure(kWidth, kHeight, fmt::format("share {}", Percent(share)), "");
  figure.Line(0.5, 1, 0.5, kHeight - 1, "axis");
  figure.Rect(0, 4, std::clamp(share, 0.0, 1.0) * kWidth, 8, "bar");
  return figure.Html();
}

std::string ImportanceTable(const FactorialAnalysis& analysis) {
  if (analysis.details == nullptr || analysis.details->importance.shares.empty()) return "";
  const std::vector<stats::ImportanceShare>& shares = analysis.details->importance.shares;
  std::string out =
      "<h3>Importance</h3>\n<p>Functional ANOVA share of each factor and pair in the variance over all combinations, "
      "by a "
      "random forest, as hyper-parameter optimisers report it. It also averages over combinations that cannot be run; "
      "the "
      "tables above do not.</p>\n<div class=\"wide\"><table id=\"importance\">\n";
  out += Head({"factors", "share", "sd over trees", ""}) + "<tbody>\n";
  for (const stats::ImportanceShare& share : shares) {
    std::string name;
    for (const std::string& factor : share.factors) name += (name.empty() ? "" : " × ") + EscapeHtml(factor);
    out += Row({name, Percent(share.share), Percent(share.spread), ShareBar(share.share)});
  }
  out += Row({"three factors and more", Percent(analysis.details->importance.higher_order), "", ""}, "resid");
  return out + "</tbody></table></div>\n";
}

std::string Tile(std::string_view heading, std::string_view value, std::string_view detail) {
  return fmt::format("<div class=\"tile\"><span>{}</span><b>{}</b><span>{}</span></div>\n", EscapeHtml(heading),
                     EscapeHtml(value), EscapeHtml(detail));
}

// "CA_out · FFN_in · relu · scale 2": a number alone would not say what it is.
std::string LevelsText(const std::vector<std::string>& factors, const std::vector<std::string>& levels) {
  std::string out;
  for (size_t i = 0; i < levels.size(); ++i) {
    if (i > 0) out += " · ";
    const bool number = levels[i].find_first_not_of("0123456789.-+e") == std::string::npos;
    out += number ? fmt::format("{}\u00a0{}", factors[i], levels[i]) : levels[i];
  }
  return out;
}

}  // namespace

std::string Paragraph(std::string_view text, std::string_view cls) {
  return cls.empty() ? fmt::format("<p>{}</p>\n", EscapeHtml(text))
                     : fmt::format("<p class=\"{}\">{}</p>\n", cls, EscapeHtml(text));
}

std::string TableHead(const std::vector<std::string>& titles) {
  std::string out = "<thead><tr>";
  for (const std::string& title : titles) out += fmt::format("<th scope=\"col\">{}</th>", EscapeHtml(title));
  return out + "</tr></thead>\n<tbody>\n";
}

std::string TableRow(const std::string& name, const std::vector<std::string>& cells) {
  std::string out = fmt::format("<tr><th scope=\"row\">{}</th>", EscapeHtml(name));
  for (const std::string& cell : cells) out += fmt::format("<td>{}</td>", EscapeHtml(cell));
  return out + "</tr>\n";
}

std::string SummaryTiles(const HtmlContext& context) {
  const FactorialAnalysis& analysis = context.analysis();
  std::string out = "<div class=\"tiles\">\n";
  const stats::AnovaTerm* strongest = nullptr;
  for (const stats::AnovaTerm& term : analysis.anova.terms) {
    if (term.is_block || std::isnan(term.f)) continue;
    if (strongest == nullptr || term.f > strongest->f) strongest = &term;
  }
  if (strongest != nullptr) {
    const std::string p = FormatP(strongest->p);
    out += Tile("Largest F", strongest->term,
                fmt::format("F = {}, p {}{}", FormatNumber(strongest->f), p.starts_with('<') ? "" : "= ", p));
  }
  if (!analysis.cells.empty()) {
    const stats::CellMean& best = analysis.cells.front();
    out += Tile(fmt::format("Best cell ({} {})", analysis.smaller_is_better ? "lowest" : "highest", context.Title()),
                LevelsText(analysis.cell_factors, best.levels),
                fmt::format("{} = {}{}", context.Title(), FormatNumber(best.mean.mean),
                            best.mean.n > 1 ? fmt::format(" (mean of {})", best.mean.n) : ""));
  }
  if (const auto untuned = FindUntunedBase(context.results, context.sweep.response)) {
    out += Tile("Untuned base", untuned->Text(), fmt::format("{} before any tuning", context.Title()));
  }
  const TrialCount& count = context.sweep.count;
  const std::string all = count.Sentence();
  out += Tile("Trials", fmt::format("{} of {}", count.succeeded, count.total), all.substr(all.find(':') + 2));
  return out + "</div>\n";
}

HtmlSection FTableSection(const HtmlContext& context) {
  const FactorialAnalysis& analysis = context.analysis();
  HtmlSection section{"f-table", "Which factor matters", ""};
  if (analysis.problem.empty()) {
    section.body += MultiFactorTable(context);
  } else {
    section.body += fmt::format("<div class=\"note\">No F table yet: {}</div>\n", EscapeHtml(analysis.problem));
  }
  if (!analysis.notes.empty()) {
    section.body += "<div class=\"note\"><ul>\n";
    for (const std::string& note : analysis.notes) section.body += fmt::format("<li>{}</li>\n", EscapeHtml(note));
    section.body += "</ul></div>\n";
  }
  const bool any_one_way = std::any_of(analysis.one_way.begin(), analysis.one_way.end(),
                                       [](const stats::OneWayResult& row) { return !std::isnan(row.f); });
  if (any_one_way) section.body += OneWayTable(context);
  section.body += ImportanceTable(analysis);
  if (analysis.problem.empty()) section.body += PowerTable(analysis);
  return section;
}

std::string BestCellsTable(const HtmlContext& context) {
  const FactorialAnalysis& analysis = context.analysis();
  const CellRanking* ranking = analysis.details == nullptr ? nullptr : &analysis.details->ranking;
  const bool ranked = ranking != nullptr && ranking->from_replicates && ranking->cells.size() == analysis.cells.size();
  const size_t shown = std::min(kCellsInPage, analysis.cells.size());
  std::string out = fmt::format(
      "<div class=\"wide\"><table id=\"best-cells\"><caption>{} of {} cells; {} {} is better.</caption>\n", shown,
      analysis.cells.size(), analysis.smaller_is_better ? "lower" : "higher", EscapeHtml(context.Title()));
  std::vector<std::string> header = {"rank"};
  for (const std::string& factor : analysis.cell_factors) header.push_back(EscapeHtml(factor));
  header.insert(header.end(), {"n", "mean", "sd", fmt::format("{:g} % interval", 100 * analysis.confidence)});
  if (ranked) header.push_back("may be the best");
  out += Head(header) + "<tbody>\n";
  for (size_t i = 0; i < shown; ++i) {
    const stats::CellMean& cell = analysis.cells[i];
    std::vector<std::string> row = {fmt::format("{}", i + 1)};
    for (const std::string& level : cell.levels) row.push_back(EscapeHtml(level));
    // The pooled error where there is one: an interval from two replicates alone says nothing.
    const double low = ranked ? ranking->cells[i].low : cell.mean.low,
                 high = ranked ? ranking->cells[i].high : cell.mean.high;
    row.insert(row.end(), {fmt::format("{}", cell.mean.n), FormatNumber(cell.mean.mean), FormatNumber(cell.mean.sd, 3),
                           FormatInterval(low, high)});
    if (ranked) row.push_back(ranking->cells[i].may_be_best ? "yes" : "no");
    out += Row(row);
  }
  return out + "</tbody></table></div>\n";
}

HtmlSection MissingSection(const HtmlContext& context) {
  const TrialCount& count = context.sweep.count;
  HtmlSection section{"trials", "Trials, and what is missing", ""};
  section.body += Paragraph(count.Sentence());
  section.body +=
      "<div class=\"wide\"><table id=\"trial-counts\">\n" +
      Head({"planned", "succeeded", "stopped early", "failed", "quarantined", "cancelled", "running", "waiting"}) +
      "<tbody>\n" +
      Row({fmt::format("{}", count.total), fmt::format("{}", count.succeeded), fmt::format("{}", count.stopped_early),
           fmt::format("{}", count.failed), fmt::format("{}", count.quarantined), fmt::format("{}", count.cancelled),
           fmt::format("{}", count.running), fmt::format("{}", count.queued)}) +
      "</tbody></table></div>\n";
  if (count.stopped_early > 0) {
    section.body +=
        Paragraph(context.options.include_stopped_early
                      ? "Trials that were stopped early are in the analysis, as asked. They trained for fewer "
                        "steps than the others."
                      : "Trials that were stopped early trained for fewer steps than the others and are left "
                        "out of the analysis.");
  }
  const std::vector<FailureGroup> failures = FailureGroups(context.results);
  if (failures.empty()) return section;
  section.body += "<div class=\"wide\"><table id=\"failures\"><caption>Failed trials by message</caption>\n" +
                  Head({"trials", "first", "message"}) + "<tbody>\n";
  for (const FailureGroup& group : failures) {
    section.body += fmt::format("<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"wrap\">{}</td></tr>\n",
                                group.trials.size(), group.trials.front(), EscapeHtml(group.message));
  }
  section.body += "</tbody></table></div>\n";
  return section;
}

}  // namespace loupe::analysis::report
