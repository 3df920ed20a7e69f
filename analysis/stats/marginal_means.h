// Estimated marginal means: a factor's level means as the model predicts them on a reference grid, so that imbalance in
// the other factors does not leak in (Searle, Speed & Milliken 1980, The American Statistician 34:216).
#pragma once

#include <string>
#include <vector>

#include "Eigen/Core"
#include "absl/status/statusor.h"
#include "analysis/stats/linear_model.h"

namespace loupe::analysis {

enum class GridWeights {
  kEqual,         // all combinations of the other factors' levels count the same (emmeans' default); a mean that needs a
                  // combination the data say nothing about is not estimable
  kOccurringCells,  // only combinations that occur with the level, each counting once: always estimable, and what is wanted
                  // when the others are impossible rather than missing (illegal position pairs)
};

struct MarginalMean {
  std::vector<std::string> levels;  // one per factor asked for
  bool estimable = false;
  double mean = 0, std_error = 0;  // NaN when not estimable
  double deviation = 0;            // mean less the data's centre, for differences
  double low = 0, high = 0;        // t interval on the residual degrees of freedom
  int64_t n = 0;                   // rows with these levels
  Eigen::RowVectorXd combination;  // the L of Lβ, for comparisons
};

struct MarginalMeans {
  std::vector<std::string> factors;
  std::vector<MarginalMean> means;  // level order, last factor fastest; only levels that occur
  double df = 0;
  double confidence = 0;
  GridWeights weights = GridWeights::kEqual;
};

// NotFound / InvalidArgument: no such factor, or not in the model. Combinations of several factors that never occur are
// left out under kOccurringCells, and listed as not estimable (unless the model says otherwise) under kEqual.
absl::StatusOr<MarginalMeans> ComputeMarginalMeans(const LinearModel& model, const std::vector<std::string>& factors,
                                                   GridWeights weights = GridWeights::kEqual, double confidence = 0.95);

}  // namespace loupe::analysis
