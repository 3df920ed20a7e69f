#include "analysis/stats/one_way.h"

#include <cmath>
#include <limits>

#include "analysis/stats/cell_table.h"
#include "analysis/stats/distributions.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis::stats {
namespace {

OneWayResult FromCells(const CellTable& cells) {
  double between = 0;
  for (size_t cell = 0; cell < cells.cells(); ++cell) between += cells.n[cell] * cells.mean[cell] * cells.mean[cell];
  const double within = cells.WithoutRounding(cells.pure_error_sum_sq);
  OneWayResult result;
  result.between_df = static_cast<double>(cells.cells()) - 1;
  result.within_df = cells.pure_error_df;
  result.between_sum_sq = cells.unit.UpSquared(between);
  result.within_sum_sq = cells.unit.UpSquared(within);
  result.between_mean_sq = cells.unit.UpSquared(between / result.between_df);
  result.within_mean_sq = cells.unit.UpSquared(within / result.within_df);
  result.f =
      within > 0 ? between / result.between_df / (within / result.within_df) : std::numeric_limits<double>::quiet_NaN();
  result.p = FUpperTail(result.f, result.between_df, result.within_df);
  result.r_squared = between / (between + within);
  result.residual_sd = cells.unit.Up(std::sqrt(within / result.within_df));
  return result;
}

}  // namespace

absl::StatusOr<OneWayResult> OneWayAnova(const std::vector<std::vector<double>>& groups) {
  DataTable table;
  table.response_name = "value";
  table.factors.push_back({"group", {}, {}});
  std::vector<double> values;
  for (size_t g = 0; g < groups.size(); ++g) {
    if (groups[g].empty()) return absl::InvalidArgumentError(fmt::format("group {} is empty; leave it out", g + 1));
    table.factors[0].levels.push_back(fmt::format("{}", g + 1));
    for (const double value : groups[g]) {
      if (!std::isfinite(value)) {
        return absl::InvalidArgumentError(fmt::format("group {} has a value that is not finite; leave it out", g + 1));
      }
      values.push_back(value);
      table.factors[0].codes.push_back(static_cast<int32_t>(g));
    }
  }
  SetResponse(table, std::move(values));
  return OneWayAnova(table, "group");
}

absl::StatusOr<OneWayResult> OneWayAnova(const DataTable& data, std::string_view factor, bool include_stopped_early) {
  LOUPE_ASSIGN_OR_RETURN(const size_t index, data.FactorIndex(factor));
  LOUPE_ASSIGN_OR_RETURN(const CellTable cells, BuildCellTable(data, {index}, include_stopped_early));
  if (cells.cells() < 2) {
    return absl::InvalidArgumentError(fmt::format(
        "factor '{}' has only one level among the {} rows used; nothing to compare", factor, cells.sample.used));
  }
  if (cells.pure_error_df == 0) {
    return absl::InvalidArgumentError(
        fmt::format("every level of '{}' has one row, so the spread within levels is unknown; add replicates", factor));
  }
  OneWayResult result = FromCells(cells);
  result.factor = std::string(factor);
  return result;
}

}  // namespace loupe::analysis::stats
