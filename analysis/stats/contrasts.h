// Questions about means that the reader asks: simple effects of a factor within the levels of others, and contrasts by
// formula. As everywhere, estimates are sums of the model's coefficients, given only where they lie in the row space of
// X.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/stats/comparisons.h"
#include "analysis/stats/linear_model.h"

namespace loupe::analysis::stats {

// F of the hypothesis that several sums of coefficients are all 0, on what of them is estimable (as emmeans'
// joint_tests).
struct JointTest {
  double df = 0;          // independent estimable directions; 0: nothing can be tested
  double nominal_df = 0;  // directions asked for
  double f = 0, p = 0;    // NaN where df or the error is 0
};
// That all means with these combinations are equal.
JointTest TestEqualMeans(const LinearModel& model, const std::vector<Eigen::RowVectorXd>& combinations);

// The means of one or more factors, compared with each other at one combination of the factors held fixed.
struct SimpleEffect {
  std::vector<std::string>
      within;  // levels held fixed, in the order of SimpleEffects::within; empty when nothing is held
  MarginalMeans means;
  JointTest test;
  std::vector<Comparison> pairs;  // multiplicity is counted within this combination alone
};
struct SimpleEffects {
  std::vector<std::string> factors, within;
  std::vector<SimpleEffect> effects;  // combinations of `within` that occur, in level order
};

// `question`: "input | output", or "input:scale | output, activation"; without '|' plain pairs of means. Names with
// such characters in them go in backquotes. InvalidArgument: anything else; a factor twice or not in the model; more
// than 2000 pairs at one combination or 20,000 in all.
absl::StatusOr<SimpleEffects> ComputeSimpleEffects(const LinearModel& model, std::string_view question,
                                                   double confidence = 0.95);

struct Contrast {
  std::string formula;
  bool estimable = false;
  std::string reason;   // why it is not; else empty
  double estimate = 0;  // NaN when not estimable, as all below
  double std_error = 0;
  double t = 0, p = 0;       // against 0, unadjusted; NaN where there is no error
  double p_holm = 0;         // over all contrasts that were asked for together
  double low = 0, high = 0;  // t interval, of this contrast alone
};

// Each formula as in contrast_formula.h. InvalidArgument: a bad formula, an unknown factor or level (what there is is
// listed), a factor that is not in the model.
absl::StatusOr<std::vector<Contrast>> EvaluateContrasts(const LinearModel& model,
                                                        const std::vector<std::string>& formulas,
                                                        double confidence = 0.95);

}  // namespace loupe::analysis::stats
