// What stands behind the F table: cell ranking, level differences, half-normal plot, residual diagnostics.
#include <algorithm>
#include <cmath>
#include <limits>

#include "analysis/report/anova_format.h"
#include "analysis/report/html_sections.h"
#include "analysis/report/number_format.h"
#include "analysis/report/svg_figure.h"
#include "analysis/stats/distributions.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::analysis::report {
namespace {

constexpr size_t kCellsDrawn = 40;
constexpr size_t kMostDots = 1500;
constexpr size_t kPairsListed = 120;
constexpr double kSide = 250;  // of the square diagnostic plots

struct PlotFrame {
  double left = 58, top = 30, width = kSide, height = kSide;
  LinearScale x, y;
};

// A framed scatter plot with ticks and titles; `draw` adds the data.
std::string ScatterPlot(std::string_view key, std::string_view title, std::string_view x_title, double x_low,
                        double x_high, double y_low, double y_high, const auto& draw) {
  PlotFrame frame;
  AddMargin(x_low, x_high, 0.05);
  AddMargin(y_low, y_high, 0.06);
  frame.x = {x_low, x_high, frame.left, frame.left + frame.width};
  frame.y = {y_low, y_high, frame.top + frame.height, frame.top};
  SvgFigure figure(frame.left + frame.width + 16, frame.top + frame.height + 42, title, key);
  figure.Text(frame.left, 16, "h", title);
  const double bottom = frame.top + frame.height;
  const Ticks x_ticks = RoundTicks(x_low, x_high, 4), y_ticks = RoundTicks(y_low, y_high, 5);
  for (const double value : y_ticks.values) {
    figure.Line(frame.left, frame.y.At(value), frame.left + frame.width, frame.y.At(value), "grid");
    figure.Text(frame.left - 6, frame.y.At(value) + 4, "e q", y_ticks.Label(value));
  }
  for (const double value : x_ticks.values) {
    figure.Line(frame.x.At(value), bottom, frame.x.At(value), bottom + 4, "axis");
    figure.Text(frame.x.At(value), bottom + 17, "m q", x_ticks.Label(value));
  }
  figure.Line(frame.left, bottom, frame.left + frame.width, bottom, "axis");
  figure.Text(frame.left + frame.width / 2, bottom + 34, "m q", x_title);
  draw(figure, frame);
  return figure.Html();
}

std::string CellsFigure(const HtmlContext& context, const CellRanking& ranking) {
  const size_t shown = std::min(kCellsDrawn, ranking.cells.size());
  double low = std::numeric_limits<double>::infinity(), high = -low, label = 0;
  std::vector<std::string> names;
  for (size_t i = 0; i < shown; ++i) {
    const RankedCell& cell = ranking.cells[i];
    low = std::min(low, cell.low);
    high = std::max(high, cell.high);
    std::string name;
    for (const std::string& level : cell.levels) name += (name.empty() ? "" : " · ") + level;
    label = std::max(label, TextWidth(name));
    names.push_back(std::move(name));
  }
  AddMargin(low, high, 0.04);
  const double left = label + 44, width = 460, row = 16, top = 12, bottom = top + row * static_cast<double>(shown);
  SvgFigure figure(left + width + 20, bottom + 38, fmt::format("Cells ranked by {}", context.Title()), "cells");
  const LinearScale x{low, high, left, left + width};
  const Ticks ticks = RoundTicks(low, high, 6);
  for (const double value : ticks.values) {
    figure.Line(x.At(value), top, x.At(value), bottom, "grid");
    figure.Text(x.At(value), bottom + 16, "m q", ticks.Label(value));
  }
  figure.Text(left + width / 2, bottom + 33, "m q", context.Title());
  for (size_t i = 0; i < shown; ++i) {
    const RankedCell& cell = ranking.cells[i];
    const double y = top + row * (static_cast<double>(i) + 0.5);
    const int shade = cell.may_be_best ? 0 : 6;
    figure.Text(30, y + 4, "e q", fmt::format("{}", i + 1));
    figure.Text(38, y + 4, "", names[i]);
    figure.Line(x.At(cell.low), y, x.At(cell.high), y, fmt::format("ci s{}", shade));
    figure.Marker(x.At(cell.mean), y, cell.may_be_best ? 0 : 1, fmt::format("f{}", shade),
                  fmt::format("{}: {} {}", names[i], FormatNumber(cell.mean), FormatInterval(cell.low, cell.high)));
  }
  return figure.Html();
}

std::string PairTable(const std::vector<stats::Comparison>& pairs) {
  std::vector<const stats::Comparison*> rows;
  for (const stats::Comparison& pair : pairs) rows.push_back(&pair);
  if (rows.size() > kPairsListed) {
    std::stable_sort(rows.begin(), rows.end(), [](const stats::Comparison* a, const stats::Comparison* b) {
      return a->estimable != b->estimable ? a->estimable : a->estimable && a->p < b->p;
    });
    rows.resize(kPairsListed);
  }
  std::string out =
      "<div class=\"wide\"><table><thead><tr><th scope=\"col\">levels</th><th scope=\"col\">difference</th>"
      "<th scope=\"col\">std. error</th><th scope=\"col\">Tukey interval</th><th scope=\"col\">p (unadjusted)</th>"
      "<th scope=\"col\">p (Tukey)</th><th scope=\"col\">p (Holm)</th><th scope=\"col\">p (Benjamini–Hochberg)</th></tr>"
      "</thead>\n<tbody>\n";
  for (const stats::Comparison* pair : rows) {
    out += fmt::format("<tr><th scope=\"row\">{} − {}</th>", EscapeHtml(pair->first), EscapeHtml(pair->second));
    if (!pair->estimable) {
      out += fmt::format("<td colspan=\"7\" class=\"l soft\">not estimable: {}</td></tr>\n", EscapeHtml(pair->reason));
      continue;
    }
    for (const std::string& text :
         {FormatNumber(pair->difference, 3), FormatNumber(pair->std_error, 3), FormatInterval(pair->low, pair->high, 3),
          FormatP(pair->p), FormatP(pair->p_tukey), FormatP(pair->p_holm), FormatP(pair->p_benjamini_hochberg)}) {
      out += fmt::format("<td>{}</td>", EscapeHtml(text));
    }
    out += "</tr>\n";
  }
  out += "</tbody></table></div>";
  if (pairs.size() > rows.size()) {
    out += Paragraph(
        fmt::format("The {} pairs with the smallest p of {}; the JSON form has all.", rows.size(), pairs.size()),
        "soft");
  }
  return out;
}

std::string ComparisonTable(const FactorComparison& comparison) {
  return fmt::format("<details><summary>{}: differences between levels</summary>\n{}</details>\n",
                     EscapeHtml(comparison.factor), PairTable(comparison.pairs));
}

std::string SimpleEffectsTables(const stats::SimpleEffects& simple) {
  std::string out;
  for (const stats::SimpleEffect& effect : simple.effects) {
    if (effect.test.df == 0) continue;
    std::string held = HeldText(simple, effect);
    if (!held.empty()) held = " within " + held;
    const stats::JointTest& test = effect.test;
    out += fmt::format("<details><summary>{}{}: {}</summary>\n{}</details>\n",
                       EscapeHtml(fmt::format("{}", fmt::join(simple.factors, ":"))), EscapeHtml(held),
                       EscapeHtml(fmt::format("F = {} on {} and {} degrees of freedom, p {}{}", FormatNumber(test.f),
                                              FormatCount(test.df), FormatCount(effect.means.df),
                                              FormatP(test.p).starts_with('<') ? "" : "= ", FormatP(test.p))),
                       PairTable(effect.pairs));
  }
  for (const std::string& sentence : NothingToCompare(simple)) out += Paragraph(sentence, "soft");
  return out;
}

std::string ContrastsTable(const std::vector<stats::Contrast>& contrasts) {
  std::string out =
      "<h3>Contrasts</h3>\n<div class=\"wide\"><table id=\"contrasts\"><thead><tr><th scope=\"col\">contrast</th>"
      "<th scope=\"col\">estimate</th><th scope=\"col\">std. error</th><th scope=\"col\">interval</th>"
      "<th scope=\"col\">p</th><th scope=\"col\">p (Holm)</th></tr></thead>\n<tbody>\n";
  for (const stats::Contrast& contrast : contrasts) {
    out += fmt::format("<tr><th scope=\"row\">{}</th>", EscapeHtml(contrast.formula));
    if (!contrast.estimable) {
      out +=
          fmt::format("<td colspan=\"5\" class=\"l soft\">not estimable: {}</td></tr>\n", EscapeHtml(contrast.reason));
      continue;
    }
    for (const std::string& text :
         {FormatNumber(contrast.estimate), FormatNumber(contrast.std_error, 3),
          FormatInterval(contrast.low, contrast.high), FormatP(contrast.p), FormatP(contrast.p_holm)}) {
      out += fmt::format("<td>{}</td>", EscapeHtml(text));
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

std::string ResidualsFigure(const ModelDetails& details) {
  // All rows count in the tests; at most kMostDots are drawn, evenly chosen.
  std::vector<const stats::ResidualRow*> rows;
  const size_t stride = (details.residuals.size() + kMostDots - 1) / kMostDots;
  for (size_t i = 0; i < details.residuals.size(); i += stride) {
    if (std::isfinite(details.residuals[i].studentized)) rows.push_back(&details.residuals[i]);
  }
  if (rows.size() < 3) return "";
  double fit_low = rows[0]->fitted, fit_high = fit_low, low = 0, high = 0;
  for (const stats::ResidualRow* row : rows) {
    fit_low = std::min(fit_low, row->fitted);
    fit_high = std::max(fit_high, row->fitted);
    low = std::min(low, row->studentized);
    high = std::max(high, row->studentized);
  }
  const auto zero_line = [](SvgFigure& figure, const PlotFrame& frame) {
    figure.Line(frame.left, frame.y.At(0), frame.left + frame.width, frame.y.At(0), "ref");
  };
  std::string out = ScatterPlot("resfit", "Studentized residual by fitted value", "fitted value", fit_low, fit_high,
                                low, high, [&](SvgFigure& figure, const PlotFrame& frame) {
                                  zero_line(figure, frame);
                                  for (const stats::ResidualRow* row : rows) {
                                    figure.Dot(frame.x.At(row->fitted), frame.y.At(row->studentized), "dot");
                                  }
                                });
  std::vector<double> sorted;
  for (const stats::ResidualRow* row : rows) sorted.push_back(row->studentized);
  std::sort(sorted.begin(), sorted.end());
  const double n = static_cast<double>(sorted.size());
  const double end = stats::NormalQuantile((n - 0.5) / n);
  out += ScatterPlot("qq", "Normal quantile plot of the residuals", "normal quantile", -end, end, low, high,
                     [&](SvgFigure& figure, const PlotFrame& frame) {
                       const double from = std::max(-end, low), to = std::min(end, high);
                       figure.Line(frame.x.At(from), frame.y.At(from), frame.x.At(to), frame.y.At(to), "ref");
                       for (size_t i = 0; i < sorted.size(); ++i) {
                         const double quantile = stats::NormalQuantile((static_cast<double>(i) + 0.5) / n);
                         figure.Dot(frame.x.At(quantile), frame.y.At(sorted[i]), "dot");
                       }
                     });
  out += ScatterPlot("resorder", "Studentized residual in trial order", "row", 0, static_cast<double>(rows.back()->row),
                     low, high, [&](SvgFigure& figure, const PlotFrame& frame) {
                       zero_line(figure, frame);
                       for (const stats::ResidualRow* row : rows) {
                         figure.Dot(frame.x.At(static_cast<double>(row->row)), frame.y.At(row->studentized), "dot");
                       }
                     });
  return out;
}

std::string HalfNormalFigure(const HalfNormal& half) {
  const double top = half.effects.back().size, end = half.effects.back().quantile;
  return ScatterPlot(
      "halfnormal", "Half-normal plot of the effects", "half-normal quantile", 0, end * 1.12, 0, top,
      [&](SvgFigure& figure, const PlotFrame& frame) {
        const double reach = std::min(end * 1.12, half.pseudo_std_error > 0 ? top / half.pseudo_std_error : end);
        figure.Line(frame.x.At(0), frame.y.At(0), frame.x.At(reach), frame.y.At(reach * half.pseudo_std_error), "ref");
        if (half.margin_of_error < top) {
          figure.Line(frame.left, frame.y.At(half.margin_of_error), frame.left + frame.width,
                      frame.y.At(half.margin_of_error), "base");
        }
        double last_label = -1e9;
        for (auto it = half.effects.rbegin(); it != half.effects.rend(); ++it) {
          const bool stands_out = it->size > half.margin_of_error;
          const double x = frame.x.At(it->quantile), y = frame.y.At(it->size);
          figure.Dot(x, y, stands_out ? "dotw" : "dot", fmt::format("{}: {}", it->term, FormatNumber(it->size)));
          // From the top down; a name is written only where it does not touch the one before.
          if (stands_out && y - last_label > 12) {
            figure.Text(x - 6, y + 4, "e x", it->term);
            last_label = y;
          }
        }
      });
}

}  // namespace

HtmlSection CellsSection(const HtmlContext& context) {
  const FactorialAnalysis& analysis = context.analysis();
  HtmlSection section{"cells", "Best cells", ""};
  if (analysis.cells.empty()) return section;
  section.body = BestCellsTable(context);
  if (analysis.details == nullptr) return section;
  const CellRanking& ranking = analysis.details->ranking;
  if (!ranking.reason.empty()) {
    section.body += Paragraph(ranking.reason, "soft");
    return section;
  }
  section.body +=
      Paragraph(fmt::format("{} of {} cells cannot be told from the best at {:g} % confidence (Hsu's multiple "
                            "comparisons with the best, {}, {} "
                            "degrees of freedom).",
                            ranking.may_be_best, ranking.cells.size(), 100 * analysis.confidence,
                            ranking.from_replicates ? "error from replicates of the same cell"
                                                    : "predictions of the fitted model, since no cell is replicated",
                            FormatCount(ranking.error_df)));
  section.body += fmt::format(
      "<figure>{}<figcaption>The {} best cells with {:g} % intervals from the pooled error. Round and blue: may be the "
      "best; "
      "square and grey: shown to be worse than the best.</figcaption></figure>\n",
      CellsFigure(context, ranking), std::min(kCellsDrawn, ranking.cells.size()), 100 * analysis.confidence);
  return section;
}

HtmlSection ComparisonsSection(const HtmlContext& context) {
  HtmlSection section{"comparisons", "Differences between levels", ""};
  if (context.analysis().details == nullptr) return section;
  const ModelDetails& details = *context.analysis().details;
  std::string tables;
  for (const FactorComparison& comparison : details.comparisons) {
    if (!comparison.pairs.empty()) tables += ComparisonTable(comparison);
    if (!comparison.pairs_reason.empty()) tables += Paragraph(comparison.pairs_reason, "soft");
  }
  if (!tables.empty()) {
    section.body =
        "<p>Differences of the model's marginal means, all pairs of a factor at once. Each is formed from the model's "
        "coefficients, all levels of the other factors with the same weight, so that it is adjusted for them; what the trials "
        "do not determine is not estimable.</p>\n" +
        tables;
  }
  if (!details.simple_effects.empty()) section.body += "<h3>Simple effects</h3>\n";
  for (const stats::SimpleEffects& simple : details.simple_effects) section.body += SimpleEffectsTables(simple);
  if (!details.contrasts.empty()) section.body += ContrastsTable(details.contrasts);
  return section;
}

HtmlSection DiagnosticsSection(const HtmlContext& context) {
  HtmlSection section{"assumptions", "Can the F tests be trusted?", ""};
  if (context.analysis().details == nullptr) return section;
  const ModelDetails& details = *context.analysis().details;
  if (!details.assumptions_reason.empty()) section.body += Paragraph(details.assumptions_reason, "soft");
  if (!details.assumptions.sentences.empty()) {
    section.body += "<ul>\n";
    for (const std::string& sentence : details.assumptions.sentences) {
      section.body += fmt::format("<li>{}</li>\n", EscapeHtml(sentence));
    }
    section.body += "</ul>\n";
  }
  section.body += fmt::format("<figure><div class=\"panels\">\n{}</div></figure>\n", ResidualsFigure(details));
  if (!details.half_normal.effects.empty()) {
    section.body += fmt::format(
        "<figure>{}<figcaption>Effects of single degrees of freedom of {}, in order, in the response's units. Inert "
        "effects lie "
        "on the dashed line (Lenth's pseudo standard error {}); those above the dotted line stand "
        "out.</figcaption></figure>\n",
        HalfNormalFigure(details.half_normal), EscapeHtml(details.half_normal.formula),
        FormatNumber(details.half_normal.pseudo_std_error, 3));
  }
  if (details.has_permutation) {
    std::string parts;
    for (const stats::PermutationTerm& term : details.permutation.terms) {
      if (std::isnan(term.p)) continue;
      parts += fmt::format("{}{} {}", parts.empty() ? "" : ", ", term.term, FormatP(term.p));
    }
    section.body += Paragraph(fmt::format("Permutation p of each F, which needs no normality ({} permutations): {}.",
                                          details.permutation.permutations, parts));
  }
  if (details.has_mixed_model) {
    const stats::MixedModel& mixed = details.mixed_model;
    section.body +=
        Paragraph(fmt::format("With {} as a random factor (REML): variance between its levels {}, residual variance "
                              "{}, intraclass correlation {}.",
                              mixed.block, FormatNumber(mixed.block_variance), FormatNumber(mixed.residual_variance),
                              FormatNumber(mixed.intraclass_correlation, 3)));
  }
  return section;
}

}  // namespace loupe::analysis::report
