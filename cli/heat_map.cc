#include "cli/heat_map.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "analysis/report/number_format.h"
#include "fmt/format.h"

namespace loupe::cli {
namespace {

constexpr int kSteps = 8;
constexpr std::array<const char*, kSteps> kBlocks = {"▁▁", "▂▂", "▃▃", "▄▄", "▅▅", "▆▆", "▇▇", "██"};
// Nearest of xterm's 256 colours to viridis (Smith and van der Walt), from dark to light.
constexpr std::array<int, kSteps> kColours = {53, 60, 24, 30, 36, 78, 148, 226};
constexpr int kBlockWidth = 2;
constexpr int kDigits = 3;
constexpr int kWidestLevel = 14;

int Columns(const std::string& text) { return static_cast<int>(analysis::report::DisplayWidth(text)); }

// Where a mean stands between the worst (0) and the best (1).
class Scale {
 public:
  Scale(const ScoreGrid& grid, bool smaller_is_better) : smaller_is_better_(smaller_is_better) {
    for (const ScoreSum& sum : grid.sums) {
      if (sum.count == 0) continue;
      low_ = std::min(low_, sum.Mean());
      high_ = std::max(high_, sum.Mean());
    }
  }
  bool empty() const { return low_ > high_; }
  double best() const { return smaller_is_better_ ? low_ : high_; }
  double worst() const { return smaller_is_better_ ? high_ : low_; }
  int StepOf(double mean) const {
    if (high_ == low_) return kSteps - 1;
    const double place = (mean - worst()) / (best() - worst());
    // An infinite mean makes a scale on which nothing has a place.
    if (!std::isfinite(place)) return 0;
    return std::clamp(static_cast<int>(place * kSteps), 0, kSteps - 1);
  }

 private:
  const bool smaller_is_better_;
  double low_ = std::numeric_limits<double>::infinity();
  double high_ = -std::numeric_limits<double>::infinity();
};

void AddBlock(StyledLine& line, int step) {
  const auto at = static_cast<size_t>(step);
  line.Add(kBlocks[at], {.colour = kColours[at]});
}

StyledLine HeadOf(const ScoreGrid& grid, const Scale& scale, const HeatMapOptions& options) {
  StyledLine head;
  head.Add(options.title, kBold)
      .Add(grid.column_factor.empty() ? fmt::format(" by {}", grid.row_factor)
                                      : fmt::format(" by {} (down) and {}", grid.row_factor, grid.column_factor));
  StyledLine legend;
  AddBlock(legend, kSteps - 1);
  legend.Add(" " + analysis::report::FormatNumber(scale.best(), kDigits) + "  ");
  AddBlock(legend, 0);
  legend.Add(" " + analysis::report::FormatNumber(scale.worst(), kDigits));
  return head.AddRight(legend, options.width).ClippedTo(options.width);
}

int WidestOf(const std::vector<std::string>& levels) {
  int widest = 0;
  for (const std::string& level : levels) widest = std::max(widest, std::min(kWidestLevel, Columns(level)));
  return widest;
}

// Where the columns stand.
struct Layout {
  int row_width = 0;
  int first = 0;
  // Of a column, and of the blanks at its end.
  int width = 0;
  int gap = 2;
  int shown = 0;
  bool numbers = true;

  int at(int column) const { return first + column * width; }
};

Layout LayoutOf(const ScoreGrid& grid, int width) {
  int number_width = 0;
  for (const ScoreSum& sum : grid.sums) {
    if (sum.count > 0)
      number_width = std::max(number_width, Columns(analysis::report::FormatNumber(sum.Mean(), kDigits)));
  }
  const int level_width = WidestOf(grid.columns);
  const auto count = static_cast<int>(grid.columns.size());
  Layout layout{.row_width = WidestOf(grid.rows)};
  layout.first = 2 + layout.row_width + 2;
  layout.width = std::max(level_width, kBlockWidth + 1 + number_width) + layout.gap;
  layout.numbers = layout.at(count) - layout.gap <= width;
  if (!layout.numbers) {
    layout.gap = 1;
    layout.width = std::clamp((width - layout.first + layout.gap) / std::max(1, count), kBlockWidth + layout.gap,
                              std::max(kBlockWidth, level_width) + layout.gap);
  }
  layout.shown = std::clamp((width - layout.first + layout.gap) / layout.width, 0, count);
  return layout;
}

StyledLine LevelsLine(const ScoreGrid& grid, const Layout& layout, int width) {
  StyledLine line;
  for (int column = 0; column < layout.shown; ++column) {
    const int room = layout.width - layout.gap;
    // "FFN_in" cut to two columns says more as "FF" than as "F…".
    line.PadTo(layout.at(column))
        .Add(StyledLine(grid.columns[static_cast<size_t>(column)]).ClippedTo(room, room > kBlockWidth).Plain(), kFaint);
  }
  const auto hidden = static_cast<int>(grid.columns.size()) - layout.shown;
  if (hidden > 0) line.AddRight(StyledLine(fmt::format("{} more", hidden), kFaint), width);
  return line;
}

StyledLine RowLine(const ScoreGrid& grid, size_t row, const Layout& layout, const Scale& scale) {
  StyledLine line("  ");
  line.Add(StyledLine(grid.rows[row]).ClippedTo(layout.row_width).Plain());
  for (int column = 0; column < layout.shown; ++column) {
    line.PadTo(layout.at(column));
    const ScoreSum& sum = grid.at(row, static_cast<size_t>(column));
    if (sum.count == 0) {
      line.Add("··", kFaint);
      continue;
    }
    AddBlock(line, scale.StepOf(sum.Mean()));
    if (layout.numbers) line.Add(" " + analysis::report::FormatNumber(sum.Mean(), kDigits));
  }
  return line;
}

}  // namespace

std::vector<StyledLine> HeatMap(const ScoreGrid& grid, const HeatMapOptions& options) {
  const Scale scale(grid, options.smaller_is_better);
  if (scale.empty()) return {};
  const Layout layout = LayoutOf(grid, options.width);
  std::vector<StyledLine> lines = {HeadOf(grid, scale, options)};
  if (layout.shown == 0) return lines;
  if (!grid.column_factor.empty()) lines.push_back(LevelsLine(grid, layout, options.width));
  const size_t room = static_cast<size_t>(std::max(3, options.height)) - lines.size();
  const size_t shown = grid.rows.size() <= room ? grid.rows.size() : room - 1;
  for (size_t row = 0; row < shown; ++row) lines.push_back(RowLine(grid, row, layout, scale));
  if (shown < grid.rows.size()) lines.emplace_back(fmt::format("  {} more", grid.rows.size() - shown), kFaint);
  return lines;
}

}  // namespace loupe::cli
