#include "analysis/report/baseline_contrasts.h"

#include <algorithm>
#include <utility>

#include "analysis/report/fold_cells.h"
#include "analysis/stats/level_names.h"
#include "analysis/stats/marginal_means.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::analysis::report {
namespace {

constexpr size_t kMostContrasts = 1000;

// The baseline's levels in the order of the factors.
absl::StatusOr<std::vector<std::string>> LevelsOf(const stats::DataTable& data,
                                                  const std::vector<std::string>& cell_factors,
                                                  const NamedCell& baseline) {
  for (const auto& [factor, level] : baseline) {
    if (std::find(cell_factors.begin(), cell_factors.end(), factor) != cell_factors.end()) continue;
    return absl::InvalidArgumentError(fmt::format("baseline: there is no factor '{}'; name a level of each of {}",
                                                  factor, fmt::join(cell_factors, ", ")));
  }
  std::vector<std::string> levels;
  for (const std::string& factor : cell_factors) {
    const auto found = baseline.find(factor);
    LOUPE_ASSIGN_OR_RETURN(const size_t index, data.FactorIndex(factor));
    const std::vector<std::string>& known = data.factors[index].levels;
    if (found == baseline.end()) {
      return absl::InvalidArgumentError(
          fmt::format("baseline: no level of '{}' is given; one of {} is needed", factor, fmt::join(known, ", ")));
    }
    const std::optional<size_t> level = stats::FindLevel(known, found->second);
    if (!level) {
      return absl::InvalidArgumentError(fmt::format("baseline: '{}' is not a level of '{}'; there are {}",
                                                    found->second, factor, fmt::join(known, ", ")));
    }
    levels.push_back(known[*level]);
  }
  return levels;
}

absl::StatusOr<BaselineContrasts> ContrastCells(const stats::LinearModel& model,
                                                const std::vector<std::string>& factors,
                                                const std::vector<std::string>& baseline, double confidence,
                                                bool smaller_is_better) {
  LOUPE_ASSIGN_OR_RETURN(const stats::MarginalMeans means,
                         stats::ComputeMarginalMeans(model, factors, stats::Combinations::kOccurring, confidence));
  if (means.means.size() > kMostContrasts) {
    return absl::InvalidArgumentError(
        fmt::format("baseline: {} cells are too many to contrast (at most {})", means.means.size(), kMostContrasts));
  }
  const auto base = std::find_if(means.means.begin(), means.means.end(),
                                 [&](const stats::MarginalMean& mean) { return mean.levels == baseline; });
  if (base == means.means.end()) {
    return absl::FailedPreconditionError(
        fmt::format("baseline: the cell {} has no result to compare with", CellName(baseline)));
  }
  BaselineContrasts result;
  result.mean = base->mean;
  LOUPE_ASSIGN_OR_RETURN(result.contrasts, stats::CompareToBaseline(model, means, baseline));
  const auto end = std::stable_partition(result.contrasts.begin(), result.contrasts.end(),
                                         [](const stats::Comparison& contrast) { return contrast.estimable; });
  std::stable_sort(result.contrasts.begin(), end, [&](const stats::Comparison& a, const stats::Comparison& b) {
    return smaller_is_better ? a.difference < b.difference : a.difference > b.difference;
  });
  return result;
}

}  // namespace

absl::StatusOr<BaselineContrasts> ContrastWithBaseline(const stats::DataTable& data, const stats::AnovaOptions& options,
                                                       const stats::LinearModel& fitted,
                                                       const std::vector<std::string>& cell_factors,
                                                       const NamedCell& baseline, bool smaller_is_better) {
  LOUPE_ASSIGN_OR_RETURN(std::vector<std::string> levels, LevelsOf(data, cell_factors, baseline));
  stats::AnovaOptions by_cell = options;
  by_cell.formula = kCellFactor;
  const stats::DataTable folded = FoldCells(data, cell_factors, options.block);  // the model refers to it
  const auto saturated = stats::LinearModel::Fit(folded, by_cell);
  absl::StatusOr<BaselineContrasts> result =
      saturated.ok()
          ? ContrastCells(**saturated, {kCellFactor}, {CellName(levels)}, options.confidence, smaller_is_better)
          : ContrastCells(fitted, cell_factors, levels, options.confidence, smaller_is_better);
  if (!result.ok()) return result.status();
  result->from_replicates = saturated.ok();
  result->levels = std::move(levels);
  return result;
}

}  // namespace loupe::analysis::report
