#include "analysis/stats/marginal_means.h"

#include <algorithm>

#include "analysis/stats/distributions.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis {
namespace {

// All combinations of level positions of `positions`, last fastest.
std::vector<std::vector<int32_t>> Grid(const CellTable& cells, const std::vector<size_t>& positions) {
  std::vector<std::vector<int32_t>> grid{{}};
  for (const size_t position : positions) {
    std::vector<std::vector<int32_t>> longer;
    for (const auto& prefix : grid) {
      for (size_t level = 0; level < cells.levels(position); ++level) {
        longer.push_back(prefix);
        longer.back().push_back(static_cast<int32_t>(level));
      }
    }
    grid = std::move(longer);
  }
  return grid;
}

bool CellHas(const CellTable& cells, size_t cell, const std::vector<size_t>& positions, const std::vector<int32_t>& levels) {
  for (size_t i = 0; i < positions.size(); ++i) {
    if (cells.codes[positions[i]][cell] != levels[i]) return false;
  }
  return true;
}

}  // namespace

absl::StatusOr<MarginalMeans> ComputeMarginalMeans(const LinearModel& model, const std::vector<std::string>& factors,
                                                   GridWeights weights, double confidence) {
  const CellTable& cells = model.cells();
  std::vector<size_t> positions;
  double grid_size = 1;
  for (const std::string& name : factors) {
    LOUPE_ASSIGN_OR_RETURN(const size_t factor, model.data().FactorIndex(name));
    const auto found = std::find(cells.factors.begin(), cells.factors.end(), factor);
    if (found == cells.factors.end()) {
      return absl::InvalidArgumentError(
          fmt::format("factor '{}' is not in the model {}, so it has no marginal means", name, model.formula()));
    }
    positions.push_back(static_cast<size_t>(found - cells.factors.begin()));
    grid_size *= static_cast<double>(cells.levels(positions.back()));
  }
  if (factors.empty() || grid_size > 1e5) {
    return absl::InvalidArgumentError("ask for the marginal means of one to a few factors (at most 100,000 combinations)");
  }
  MarginalMeans result{.factors = factors, .means = {}, .df = model.residual_df(), .confidence = confidence, .weights = weights};
  const double t = TQuantile(0.5 * (1 + confidence), model.residual_df());
  for (const std::vector<int32_t>& levels : Grid(cells, positions)) {
    MarginalMean mean;
    std::vector<int32_t> at(cells.factors.size(), ModelMatrix::kAveraged);
    for (size_t i = 0; i < positions.size(); ++i) {
      at[positions[i]] = levels[i];
      const Factor& factor = model.data().factors[cells.factors[positions[i]]];
      mean.levels.push_back(factor.levels[static_cast<size_t>(cells.used_levels[positions[i]][static_cast<size_t>(levels[i])])]);
    }
    Eigen::RowVectorXd sum = Eigen::RowVectorXd::Zero(model.matrix().column_count());
    double occurring = 0;
    double n = 0;
    for (size_t cell = 0; cell < cells.cells(); ++cell) {
      if (!CellHas(cells, cell, positions, levels)) continue;
      n += cells.n[cell];
      if (weights == GridWeights::kOccurringCells) {
        sum += model.matrix().Rows(static_cast<Eigen::Index>(cell), 1).row(0);
        occurring += 1;
      }
    }
    mean.n = static_cast<int64_t>(n);
    if (weights == GridWeights::kOccurringCells) {
      if (occurring == 0) continue;
      mean.combination = sum / occurring;
    } else {
      mean.combination = model.matrix().Row(at);
    }
    const Estimate estimate = model.Evaluate(mean.combination);
    mean.estimable = estimate.estimable;
    mean.mean = estimate.value;
    mean.deviation = estimate.deviation;
    mean.std_error = estimate.std_error;
    mean.low = estimate.value - t * estimate.std_error;
    mean.high = estimate.value + t * estimate.std_error;
    result.means.push_back(std::move(mean));
  }
  return result;
}

}  // namespace loupe::analysis
