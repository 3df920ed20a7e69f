// Which power of the response would make the residuals most normal (Box & Cox 1964, JRSS B 26:211).
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "analysis/stats/anova.h"
#include "analysis/stats/data_table.h"

namespace loupe::analysis::stats {

struct BoxCoxResult {
  double lambda = 0;         // maximum of the profile likelihood in [−5, 5]
  double low = 0, high = 0;  // λ not rejected at the confidence of the options (likelihood ratio, χ²₁)
  double log_likelihood = 0;
  double log_likelihood_of_identity = 0;  // at λ = 1
  std::string hint;                       // one sentence: leave as it is, or transform by log, √, 1/y, …
};

// Profile log-likelihood −n/2·log(RSS(λ)/n) + (λ − 1)·Σ log y for the model of `options`. FailedPrecondition: a
// response is not positive (shift it first). Else the errors of FitAnova.
absl::StatusOr<BoxCoxResult> BoxCox(const DataTable& data, const AnovaOptions& options);

}  // namespace loupe::analysis::stats
