// Estimated marginal means: a factor's level means as the model predicts them on a reference grid, so that imbalance in
// the other factors does not leak in (Searle, Speed & Milliken 1980, The American Statistician 34:216).
//
// The grid is the full cross of the levels that occur of every other factor in the model, the block included, each
// combination with the same weight (the default of R's emmeans). The row of such an average is a product of averages
// per factor, so the cross itself is never formed. A mean that needs what the trials do not determine is not estimable,
// and says why; differences of such means may be estimable all the same (see comparisons.h).
#pragma once

#include <string>
#include <vector>

#include "Eigen/Core"
#include "absl/status/statusor.h"
#include "analysis/stats/linear_model.h"

namespace loupe::analysis::stats {

// Which combinations of the levels of several factors get a mean.
enum class Combinations {
  kAll,        // the full cross of the factors asked for
  kOccurring,  // those that some row has: the cells of a design, however many factors it has
};

struct MarginalMean {
  std::vector<std::string> levels;  // one per factor asked for
  bool estimable = false;
  std::string reason;              // one sentence, why it is not; else empty
  double mean = 0, std_error = 0;  // NaN when not estimable
  double deviation = 0;            // mean less the data's centre, for differences
  double low = 0, high = 0;        // t interval on the residual degrees of freedom
  int64_t n = 0;                   // rows with these levels
  Eigen::RowVectorXd combination;  // the L of Lβ, for comparisons
  std::vector<int32_t> at;         // per factor of the model's cells: level position, or ModelMatrix::kAveraged
};

struct MarginalMeans {
  std::vector<std::string> factors;
  std::vector<MarginalMean> means;  // level order, last factor fastest; only levels that occur
  double df = 0;
  double confidence = 0;
};

// NotFound / InvalidArgument: no such factor, not in the model, or more than 100,000 combinations.
absl::StatusOr<MarginalMeans> ComputeMarginalMeans(const LinearModel& model, const std::vector<std::string>& factors,
                                                   Combinations combinations = Combinations::kAll,
                                                   double confidence = 0.95);

}  // namespace loupe::analysis::stats
