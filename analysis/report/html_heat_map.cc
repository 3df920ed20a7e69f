#include <algorithm>
#include <cmath>
#include <limits>

#include "analysis/report/html_sections.h"
#include "analysis/report/number_format.h"
#include "analysis/report/svg_figure.h"
#include "fmt/format.h"

namespace loupe::analysis::report {
namespace {

constexpr double kCellWidth = 82, kCellHeight = 40, kHeaderHeight = 52, kRightMargin = 20, kLegendHeight = 62;

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  double worst_to_best(double value, bool smaller_is_better) const {
    if (!(high > low)) return 0.5;
    const double share = (value - low) / (high - low);
    return smaller_is_better ? 1 - share : share;
  }
};

void DrawLegend(SvgFigure& figure, double left, double top, double width, const Range& range,
                const HtmlContext& context) {
  constexpr int kSteps = 48;
  for (int i = 0; i < kSteps; ++i) {
    const double x = left + width * i / kSteps;
    const double share = (i + 0.5) / kSteps;
    const bool flip = context.analysis().smaller_is_better;
    figure.Rect(x, top, width / kSteps + 0.6, 12, "scale", SequentialColour(flip ? 1 - share : share).fill);
  }
  figure.Text(left, top + 26, "q", FormatNumber(range.low));
  figure.Text(left + width, top + 26, "e q", FormatNumber(range.high));
  figure.Text(
      left + width / 2, top + 26, "m q",
      fmt::format("mean {} ({} is better)", context.Title(), context.analysis().smaller_is_better ? "low" : "high"));
}

}  // namespace

int64_t PlannedTrials(const SweepResults& results, const std::string& row_factor, const std::string& row_level,
                      const std::string& column_factor, const std::string& column_level) {
  const auto find = [&results](const std::string& name) {
    return static_cast<size_t>(std::find_if(results.factors.begin(), results.factors.end(),
                                            [&](const SweepFactor& factor) { return factor.name == name; }) -
                               results.factors.begin());
  };
  const size_t row = find(row_factor), column = find(column_factor);
  if (row == results.factors.size() || column == results.factors.size()) return 0;
  return std::count_if(results.trials.begin(), results.trials.end(), [&](const TrialRecord& trial) {
    return LevelName(results, trial, row) == row_level && LevelName(results, trial, column) == column_level;
  });
}

HtmlSection HeatMapSection(const HtmlContext& context) {
  const FactorialAnalysis& analysis = context.analysis();
  HtmlSection section{"heat-map", "Heat map", ""};
  if (!analysis.has_heat_map) return section;
  const stats::TwoWayMeans& map = analysis.heat_map;
  section.heading = fmt::format("{} × {}", map.row_factor, map.column_factor);

  Range range;
  const stats::LevelMean* best = nullptr;
  for (const stats::LevelMean& cell : map.cells) {
    if (cell.n == 0) continue;
    range.low = std::min(range.low, cell.mean);
    range.high = std::max(range.high, cell.mean);
    if (best == nullptr || (analysis.smaller_is_better ? cell.mean < best->mean : cell.mean > best->mean)) best = &cell;
  }
  if (best == nullptr) return section;

  // The heading is bold and carries an arrow.
  double left = TextWidth(fmt::format("{} ↓", map.row_factor), 14) + 16;
  for (const std::string& level : map.row_levels) left = std::max(left, TextWidth(level) + 16);
  double cell_width = kCellWidth;
  for (const std::string& level : map.column_levels) cell_width = std::max(cell_width, TextWidth(level) + 10);
  const double grid_width = cell_width * static_cast<double>(map.column_levels.size());
  const double grid_height = kCellHeight * static_cast<double>(map.row_levels.size());
  const double width = std::max(left + grid_width + kRightMargin, left + 340);
  SvgFigure figure(width, kHeaderHeight + grid_height + kLegendHeight,
                   fmt::format("Heat map of mean {} by {} and {}", context.Title(), map.row_factor, map.column_factor),
                   "heat");
  figure.Text(left - 10, kHeaderHeight - 10, "e h", fmt::format("{} ↓", map.row_factor));
  figure.Text(left + grid_width / 2, 16, "m h", fmt::format("{} →", map.column_factor));
  for (size_t c = 0; c < map.column_levels.size(); ++c) {
    figure.Text(left + cell_width * (static_cast<double>(c) + 0.5), kHeaderHeight - 10, "m", map.column_levels[c]);
  }
  bool any_unplanned = false, any_missing = false;
  for (size_t r = 0; r < map.row_levels.size(); ++r) {
    const double y = kHeaderHeight + kCellHeight * static_cast<double>(r);
    figure.Text(left - 10, y + kCellHeight / 2 + 4, "e", map.row_levels[r]);
    for (size_t c = 0; c < map.column_levels.size(); ++c) {
      const double x = left + cell_width * static_cast<double>(c);
      const stats::LevelMean& cell = map.At(r, c);
      const std::string name = fmt::format("{} → {}", map.row_levels[r], map.column_levels[c]);
      if (cell.n > 0) {
        const ScaleColour colour = SequentialColour(range.worst_to_best(cell.mean, analysis.smaller_is_better));
        figure.Rect(
            x, y, cell_width, kCellHeight, "cell", colour.fill,
            fmt::format("{}: {} (sd {}, n = {})", name, FormatNumber(cell.mean), FormatNumber(cell.sd, 3), cell.n));
        figure.Text(x + cell_width / 2, y + 18, "m v", FormatNumber(cell.mean), colour.text);
        figure.Text(x + cell_width / 2, y + 32, "m x", fmt::format("n = {}", cell.n), colour.text);
        continue;
      }
      const int64_t planned =
          PlannedTrials(context.results, map.row_factor, map.row_levels[r], map.column_factor, map.column_levels[c]);
      if (planned == 0) {
        any_unplanned = true;
        figure.HatchedRect(x + 1, y + 1, cell_width - 2, kCellHeight - 2, fmt::format("{}: not in the design", name));
      } else {
        any_missing = true;
        figure.Rect(x + 1, y + 1, cell_width - 2, kCellHeight - 2, "blank", "", fmt::format("{}: no result yet", name));
        figure.Text(x + cell_width / 2, y + kCellHeight / 2 + 4, "m q", "no result");
      }
    }
  }
  const auto best_at = static_cast<size_t>(best - map.cells.data());
  figure.Rect(left + cell_width * static_cast<double>(best_at % map.column_levels.size()) + 1.5,
              kHeaderHeight + kCellHeight * static_cast<double>(best_at / map.column_levels.size()) + 1.5,
              cell_width - 3, kCellHeight - 3, "best");
  DrawLegend(figure, left, kHeaderHeight + grid_height + 18, std::min(std::max(grid_width, 320.0), 460.0), range,
             context);

  section.body = fmt::format(
      "<figure>{}<figcaption>Mean {} over everything else; the best is framed.{}{}</figcaption></figure>\n",
      figure.Html(), EscapeHtml(context.Title()),
      any_unplanned
          ? " Hatched: combinations that are not in the design (an adapter writes at or after the place it reads)."
          : "",
      any_missing ? " Empty: planned, but no trial has a result." : "");
  return section;
}

}  // namespace loupe::analysis::report
