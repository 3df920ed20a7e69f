#include "analysis/stats/marginal_means.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "analysis/stats/distributions.h"
#include "analysis/stats/estimability_reasons.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis::stats {
namespace {

constexpr double kMostMeans = 1e5;

// Positions in cells.factors of the factors asked for.
absl::StatusOr<std::vector<size_t>> PositionsOf(const LinearModel& model, const std::vector<std::string>& factors) {
  const CellTable& cells = model.cells();
  std::vector<size_t> positions;
  for (const std::string& name : factors) {
    LOUPE_ASSIGN_OR_RETURN(const size_t factor, model.data().FactorIndex(name));
    const auto found = std::find(cells.factors.begin(), cells.factors.end(), factor);
    if (found == cells.factors.end()) {
      return absl::InvalidArgumentError(
          fmt::format("factor '{}' is not in the model {}, so it has no marginal means", name, model.formula()));
    }
    positions.push_back(static_cast<size_t>(found - cells.factors.begin()));
  }
  return positions;
}

// Combinations of level positions, ascending (the last factor fastest), with the rows that have them.
using CombinationRows = std::map<std::vector<int32_t>, double>;

CombinationRows OccurringCombinationsOf(const CellTable& cells, const std::vector<size_t>& positions) {
  CombinationRows rows;
  std::vector<int32_t> key(positions.size());
  for (size_t cell = 0; cell < cells.cells(); ++cell) {
    for (size_t i = 0; i < positions.size(); ++i) key[i] = cells.codes[positions[i]][cell];
    rows[key] += cells.n[cell];
  }
  return rows;
}

void AddMissingCombinations(const CellTable& cells, const std::vector<size_t>& positions, CombinationRows& rows) {
  std::vector<int32_t> key(positions.size(), 0);
  for (size_t at = positions.size();;) {
    rows.try_emplace(key, 0.0);
    for (at = positions.size(); at > 0; --at) {
      if (++key[at - 1] < static_cast<int32_t>(cells.levels(positions[at - 1]))) break;
      key[at - 1] = 0;
    }
    if (at == 0) return;
  }
}

// Whether a nested factor stands at the level that is none.
bool NamesAbsence(const CellTable& cells, const std::vector<size_t>& positions, const std::vector<int32_t>& levels) {
  for (size_t i = 0; i < positions.size(); ++i) {
    const CellNesting nesting = cells.NestingOf(positions[i]);
    if (nesting.nested && levels[i] == nesting.absent) return true;
  }
  return false;
}

}  // namespace

absl::StatusOr<MarginalMeans> ComputeMarginalMeans(const LinearModel& model, const std::vector<std::string>& factors,
                                                   Combinations combinations, double confidence) {
  const CellTable& cells = model.cells();
  if (factors.empty()) return absl::InvalidArgumentError("ask for the marginal means of one factor or more");
  LOUPE_ASSIGN_OR_RETURN(const std::vector<size_t> positions, PositionsOf(model, factors));
  CombinationRows rows = OccurringCombinationsOf(cells, positions);
  double count = static_cast<double>(rows.size());
  if (combinations == Combinations::kAll) {
    count = 1;
    for (const size_t position : positions) count *= static_cast<double>(cells.levels(position));
  }
  if (count > kMostMeans) {
    return absl::InvalidArgumentError(fmt::format(
        "{} combinations of levels are too many means (at most {}); ask for fewer factors", count, kMostMeans));
  }
  if (combinations == Combinations::kAll) AddMissingCombinations(cells, positions, rows);

  MarginalMeans result{.factors = factors, .means = {}, .df = model.residual_df(), .confidence = confidence};
  const double t = TQuantile(0.5 * (1 + confidence), model.residual_df());
  EstimabilityReasons reasons(model);
  for (const auto& [levels, n] : rows) {
    if (combinations == Combinations::kAll && NamesAbsence(cells, positions, levels)) continue;
    MarginalMean mean;
    mean.at.assign(cells.factors.size(), ModelMatrix::kAveraged);
    for (size_t i = 0; i < positions.size(); ++i) {
      mean.at[positions[i]] = levels[i];
      mean.levels.push_back(LevelName(model, positions[i], levels[i]));
    }
    mean.n = static_cast<int64_t>(n);
    std::optional<Eigen::RowVectorXd> row = model.MeanRow(mean.at);
    if (!row) continue;  // a nested factor where it does not exist
    mean.combination = *std::move(row);
    const Estimate estimate = model.Evaluate(mean.combination);
    mean.estimable = estimate.estimable;
    if (!mean.estimable) mean.reason = reasons.OfMean(mean.at);
    mean.mean = estimate.value;
    mean.deviation = estimate.deviation;
    mean.std_error = estimate.std_error;
    mean.low = estimate.value - t * estimate.std_error;
    mean.high = estimate.value + t * estimate.std_error;
    result.means.push_back(std::move(mean));
  }
  return result;
}

}  // namespace loupe::analysis::stats
