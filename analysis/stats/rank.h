// Ranks with ties averaged, and Spearman's rank correlation.
#pragma once

#include <vector>

#include "absl/status/statusor.h"

namespace loupe::analysis::stats {

struct RankedValues {
  std::vector<double> rank;  // 1 for the smallest; ties share their mean rank
  double tie_sum = 0;        // Σ (t³ − t) over groups of t equal values
};
// Precondition: no NaN.
RankedValues Rank(const std::vector<double>& values);

// Agreement of two rankings of the same cells (of two tasks, or of a design and a fraction of it).
struct RankAgreement {
  double rho = 0;  // Spearman's: the correlation of the ranks
  double p = 0;    // two-sided, t approximation with n − 2 degrees of freedom; 0 for |ρ| = 1, NaN for n < 3
  size_t n = 0;    // pairs used
};
// Pairs with a NaN are left out. InvalidArgument: sizes differ, fewer than two pairs, or one side is constant.
absl::StatusOr<RankAgreement> SpearmanAgreement(const std::vector<double>& a, const std::vector<double>& b);

// Interval of Spearman's ρ by Fisher's z with the variance (1 + ρ²/2)/(n − 3) of Bonett and Wright (2000, "Sample size
// requirements for estimating Pearson, Kendall and Spearman correlations", Psychometrika 65). NaN for n < 4 and |ρ|
// = 1.
struct RankInterval {
  double low = 0, high = 0;
};
RankInterval SpearmanInterval(const RankAgreement& agreement, double confidence);

}  // namespace loupe::analysis::stats
