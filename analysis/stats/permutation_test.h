// Permutation p-values for the F of each term: no assumption of normality, for small n.
//
// Freedman & Lane (1983, J. Bus. Econ. Stat. 1:292): the residuals of the model without the term (the terms that it is
// tested after) are permuted, added to that model's fit, and F is computed again. For one factor alone this is the
// plain permutation of responses. With a block, residuals move within blocks only.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/stats/anova.h"
#include "analysis/stats/data_table.h"

namespace loupe::analysis::stats {

struct PermutationOptions {
  int64_t permutations = 9999;
  uint64_t seed = 1;
};

struct PermutationTerm {
  std::string term;
  double f = 0;
  double p = 0;        // (1 + #{F* ≥ F})/(1 + permutations); NaN when the term is not estimable
  double p_error = 0;  // Monte Carlo standard error of p
};

struct PermutationResult {
  std::vector<PermutationTerm> terms;  // the block is not tested
  int64_t permutations = 0;
  uint64_t seed = 0;
};

// Errors as FitAnova's; InvalidArgument for fewer than 99 permutations or more than 20,000 rows (the ordinary F is then
// as good).
absl::StatusOr<PermutationResult> PermutationF(const DataTable& data, const AnovaOptions& options,
                                               const PermutationOptions& permutation);

}  // namespace loupe::analysis::stats
