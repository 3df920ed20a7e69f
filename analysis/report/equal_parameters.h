// Methods at an equal budget of trained parameters: each one's mean over those of its settings that train about as
// many.
//
// A method's mean over all its settings mixes small ones and large ones; at equal size the question is what a parameter
// buys. Nothing is interpolated: a method is compared by settings that were run, or not at all.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/stats/comparisons.h"
#include "analysis/stats/contrasts.h"
#include "analysis/stats/linear_model.h"
#include "analysis/stats/marginal_means.h"

namespace loupe::analysis::report {

struct ParameterBudget {
  double parameters = 0;    // 0: not asked for
  double tolerance = 0.25;  // settings of (1 ± tolerance) · parameters count
};

// A method's own settings that count, and their mean, each setting with the same weight.
struct MethodAtBudget {
  std::string method;
  std::vector<std::string>
      settings;                // "rank 4, targets all"; one empty text where the method has no factors of its own
  double least = 0, most = 0;  // parameters of those settings
  stats::MarginalMean mean;    // levels: the method
};

struct EqualParameters {
  ParameterBudget budget;
  std::vector<MethodAtBudget> methods;  // in level order; only those with a setting that counts
  stats::JointTest equal;               // of all their means being equal
  std::string baseline;                 // the method that the others are compared with; empty: none is there
  std::vector<stats::Comparison> with_baseline;
  std::vector<std::string> sentences;  // which methods have no such setting, and what sizes theirs have
};

// A method as the comparison needs it.
struct MethodSettings {
  std::string method;
  std::vector<std::string> own_factors;  // in the model
};

// `parameters`: trained ones per row of the model's table, NaN where not known; a setting's are the mean over its rows.
// `baseline`: as MethodComparison::baseline; where it has no setting at the budget, the first method that has one.
absl::StatusOr<EqualParameters> CompareAtEqualParameters(const stats::LinearModel& model, const std::string& factor,
                                                         const std::vector<MethodSettings>& methods,
                                                         const std::vector<double>& parameters,
                                                         const ParameterBudget& budget, const std::string& baseline,
                                                         double confidence);

}  // namespace loupe::analysis::report
