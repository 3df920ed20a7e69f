#include <algorithm>
#include <cmath>
#include <limits>

#include "analysis/report/html_sections.h"
#include "analysis/report/number_format.h"
#include "analysis/report/svg_figure.h"
#include "analysis/stats/level_means.h"
#include "analysis/stats/nesting.h"
#include "fmt/format.h"

namespace loupe::analysis::report {
namespace {

constexpr double kPlotHeight = 210, kTop = 30, kLeft = 54, kRight = 14;
constexpr size_t kMostEffectLines = 7;  // series that can still be told apart
constexpr size_t kMostPanels = 10;

struct YRange {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  void Include(double value) {
    if (std::isnan(value)) return;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  bool empty() const { return !(low <= high); }
};

// Labels stand upright if they fit side by side, else they are slanted.
struct LevelAxis {
  double step = 0;
  bool slanted = false;
  double bottom = 0;  // room below the plot
};

LevelAxis PlanLevelAxis(const std::vector<std::string>& levels, double least_step) {
  double longest = 0;
  for (const std::string& level : levels) longest = std::max(longest, TextWidth(level));
  LevelAxis axis;
  axis.step = least_step;
  if (longest + 8 <= least_step * 1.35) {
    axis.step = std::max(least_step, longest + 8);
    axis.bottom = 26;
  } else {
    axis.slanted = true;
    axis.bottom = 18 + longest * 0.72;
  }
  return axis;
}

void DrawYAxis(SvgFigure& figure, const LinearScale& y, double right) {
  const Ticks ticks = RoundTicks(y.low, y.high, 5);
  for (const double value : ticks.values) {
    figure.Line(kLeft, y.At(value), right, y.At(value), "grid");
    figure.Text(kLeft - 6, y.At(value) + 4, "e q", ticks.Label(value));
  }
  figure.Line(kLeft, y.low_pixel, kLeft, y.high_pixel, "axis");
}

void DrawLevels(SvgFigure& figure, const std::vector<std::string>& levels, const LevelAxis& axis) {
  for (size_t i = 0; i < levels.size(); ++i) {
    const double x = kLeft + axis.step * (static_cast<double>(i) + 0.5);
    if (axis.slanted) {
      figure.RotatedText(x + 4, kTop + kPlotHeight + 14, -45, "e", levels[i]);
    } else {
      figure.Text(x, kTop + kPlotHeight + 16, "m", levels[i]);
    }
  }
}

// The model's mean of each level, in level order; NaN where it has none.
struct AdjustedLevel {
  double mean = std::numeric_limits<double>::quiet_NaN(), low = mean, high = mean;
};

std::vector<AdjustedLevel> AdjustedLevels(const FactorialAnalysis& analysis, const FactorMeans& factor) {
  std::vector<AdjustedLevel> out(factor.levels.size());
  if (analysis.details == nullptr) return out;
  for (const FactorComparison& comparison : analysis.details->comparisons) {
    if (comparison.factor != factor.factor) continue;
    for (const stats::MarginalMean& mean : comparison.means.means) {
      for (size_t i = 0; i < factor.levels.size(); ++i) {
        if (mean.estimable && factor.levels[i].level == mean.levels[0]) out[i] = {mean.mean, mean.low, mean.high};
      }
    }
  }
  return out;
}

std::string MainEffectPanel(const HtmlContext& context, const FactorMeans& factor, const YRange& range,
                            double grand_mean, int number) {
  const std::vector<AdjustedLevel> adjusted = AdjustedLevels(context.analysis(), factor);
  const bool has_model = context.analysis().details != nullptr;
  std::vector<std::string> levels;
  for (const stats::LevelMean& level : factor.levels) levels.push_back(level.level);
  const LevelAxis axis = PlanLevelAxis(levels, levels.size() > 6 ? 46 : 54);
  const double right =
      std::max(kLeft + axis.step * static_cast<double>(levels.size()), kLeft + TextWidth(factor.factor, 12));
  SvgFigure figure(right + kRight, kTop + kPlotHeight + axis.bottom,
                   fmt::format("Mean {} per level of {}", context.Title(), factor.factor),
                   fmt::format("main{}", number));
  const LinearScale y{range.low, range.high, kTop + kPlotHeight, kTop};
  figure.Text(kLeft, 16, "h", factor.factor);
  DrawYAxis(figure, y, right);
  if (!std::isnan(grand_mean)) figure.Line(kLeft, y.At(grand_mean), right, y.At(grand_mean), "ref");
  std::vector<std::pair<double, double>> line;
  for (size_t i = 0; i < factor.levels.size(); ++i) {
    const stats::LevelMean& level = factor.levels[i];
    if (level.n == 0) continue;
    const double x = kLeft + axis.step * (static_cast<double>(i) + 0.5);
    const bool by_model = !std::isnan(adjusted[i].mean);
    if (has_model &&
        !by_model) {  // a plain mean is shown as one, without an interval that would compare it with others
      figure.Marker(x, y.At(level.mean), 0, "raw",
                    fmt::format("{} = {}: plain mean {}, n = {}; the model's mean is not estimable", factor.factor,
                                level.level, FormatNumber(level.mean), level.n));
      continue;
    }
    const double mean = by_model ? adjusted[i].mean : level.mean;
    const double low = by_model ? adjusted[i].low : level.low, high = by_model ? adjusted[i].high : level.high;
    line.emplace_back(x, y.At(mean));
    if (!std::isnan(low)) {
      figure.Line(x, y.At(low), x, y.At(high), "ci s0");
      figure.Line(x - 4, y.At(low), x + 4, y.At(low), "ci s0");
      figure.Line(x - 4, y.At(high), x + 4, y.At(high), "ci s0");
    }
    // Drawn where the eye can tell the two apart.
    if (by_model && std::abs(y.At(level.mean) - y.At(mean)) > 2) {
      figure.Marker(x + 9, y.At(level.mean), 0, "raw", fmt::format("plain mean {}", FormatNumber(level.mean)));
    }
    figure.Marker(x, y.At(mean), 0, "f0",
                  fmt::format("{} = {}: {} {}, n = {}", factor.factor, level.level, FormatNumber(mean),
                              FormatInterval(low, high), level.n));
  }
  figure.Path(line, "s0");
  DrawLevels(figure, levels, axis);
  return figure.Html();
}

std::string InteractionPanel(const HtmlContext& context, const stats::TwoWayMeans& means, const YRange& range,
                             int number) {
  // Columns of `means` run along x, rows are the lines.
  const LevelAxis axis = PlanLevelAxis(means.column_levels, means.column_levels.size() > 6 ? 46 : 56);
  const double right = kLeft + axis.step * static_cast<double>(means.column_levels.size());
  double legend = TextWidth(means.row_factor, 12);
  for (const std::string& level : means.row_levels) legend = std::max(legend, TextWidth(level) + 22);
  SvgFigure figure(right + 12 + legend + 6, kTop + kPlotHeight + axis.bottom,
                   fmt::format("Mean {} by {} for each {}", context.Title(), means.column_factor, means.row_factor),
                   fmt::format("inter{}", number));
  const LinearScale y{range.low, range.high, kTop + kPlotHeight, kTop};
  figure.Text(kLeft, 16, "h", means.column_factor);
  DrawYAxis(figure, y, right);
  DrawLevels(figure, means.column_levels, axis);
  figure.Text(right + 12, kTop + 4, "b", means.row_factor);
  for (size_t r = 0; r < means.row_levels.size(); ++r) {
    std::vector<std::pair<double, double>> line;
    for (size_t c = 0; c < means.column_levels.size(); ++c) {
      if (means.At(r, c).n == 0) continue;
      line.emplace_back(kLeft + axis.step * (static_cast<double>(c) + 0.5), y.At(means.At(r, c).mean));
    }
    figure.Path(line, fmt::format("s{}", r));
    for (const auto& [x, py] : line) figure.Marker(x, py, static_cast<int>(r), fmt::format("f{}", r));
    const double key_y = kTop + 22 + 17 * static_cast<double>(r);
    figure.Marker(right + 18, key_y - 4, static_cast<int>(r), fmt::format("f{}", r));
    figure.Text(right + 29, key_y, "", means.row_levels[r]);
  }
  return figure.Html();
}

}  // namespace

HtmlSection MainEffectsSection(const HtmlContext& context) {
  const FactorialAnalysis& analysis = context.analysis();
  HtmlSection section{"main-effects", "Main effects", ""};
  YRange range;
  double sum = 0, n = 0;
  const bool by_model = analysis.details != nullptr;
  for (const FactorMeans& factor : analysis.means) {
    for (const AdjustedLevel& level : AdjustedLevels(analysis, factor)) {
      range.Include(level.low);
      range.Include(level.high);
    }
    for (const stats::LevelMean& level : factor.levels) {
      if (level.n == 0) continue;
      range.Include(level.mean);
      if (!by_model) {
        range.Include(level.low);
        range.Include(level.high);
      }
      if (&factor == &analysis.means.front()) {
        sum += level.mean * static_cast<double>(level.n);
        n += static_cast<double>(level.n);
      }
    }
  }
  if (range.empty()) return section;
  AddMargin(range.low, range.high, 0.05);
  section.body = "<figure><div class=\"panels\">\n";
  int number = 0;
  for (const FactorMeans& factor : analysis.means) {
    section.body += MainEffectPanel(context, factor, range, sum / n, number++);
  }
  section.body += fmt::format(
      "</div><figcaption>Mean {} per level with {:g} % intervals, on one vertical scale. Dashed: the mean of "
      "all trials. ",
      EscapeHtml(context.Title()), 100 * analysis.confidence);
  section.body +=
      by_model
          ? "Blue: the model's means, all levels of the other factors with the same weight, with intervals from its "
            "residual; hollow: plain means of the trials, which are not adjusted, where they differ or where the model's mean "
            "is not estimable."
          : "Intervals are from the spread of the trials at that level, which includes the other factors' effects.";
  section.body += "</figcaption></figure>\n";
  return section;
}

HtmlSection InteractionsSection(const HtmlContext& context) {
  const FactorialAnalysis& analysis = context.analysis();
  HtmlSection section{"interactions", "Interactions", ""};
  std::vector<stats::TwoWayMeans> panels;
  const bool nested = stats::HasNestedFactors(analysis.data);
  const stats::DataTable observed = nested ? stats::WithoutAbsentLevels(analysis.data) : stats::DataTable{};
  for (size_t a = 0; a < analysis.means.size(); ++a) {
    for (size_t b = a + 1; b < analysis.means.size() && panels.size() < kMostPanels; ++b) {
      // The factor with more levels along x, the other one as lines.
      size_t x = a, lines = b;
      if (analysis.means[b].levels.size() > analysis.means[a].levels.size()) std::swap(x, lines);
      if (analysis.means[lines].levels.size() > kMostEffectLines || analysis.means[lines].levels.size() < 2) continue;
      if (analysis.has_heat_map && analysis.means[a].factor == analysis.heat_map.row_factor &&
          analysis.means[b].factor == analysis.heat_map.column_factor && analysis.means.size() > 2) {
        continue;  // shown above, with its empty combinations
      }
      auto means = stats::ComputeTwoWayMeans(nested ? observed : analysis.data, analysis.means[lines].factor,
                                             analysis.means[x].factor, analysis.confidence,
                                             context.options.include_stopped_early);
      if (means.ok()) panels.push_back(*std::move(means));
    }
  }
  YRange range;
  for (const stats::TwoWayMeans& panel : panels) {
    for (const stats::LevelMean& cell : panel.cells) {
      if (cell.n > 0) range.Include(cell.mean);
    }
  }
  if (range.empty()) return section;
  AddMargin(range.low, range.high, 0.06);
  section.body = "<figure><div class=\"panels\">\n";
  for (size_t i = 0; i < panels.size(); ++i)
    section.body += InteractionPanel(context, panels[i], range, static_cast<int>(i));
  section.body += fmt::format(
      "</div><figcaption>Plain mean {} of the trials for pairs of levels, not adjusted for the other factors. Parallel lines: the factors act independently. Lines stop where "
      "a "
      "combination has no trials.</figcaption></figure>\n",
      EscapeHtml(context.Title()));
  return section;
}

}  // namespace loupe::analysis::report
