// Comparisons among marginal means, with the multiplicity said: all pairs (Tukey–Kramer, Holm, Benjamini–Hochberg),
// each against a named baseline (Dunnett, Holm), and with the best (Hsu's MCB).
//
// Law: a difference is formed from the model's coefficients and given only where it lies in the row space of X, whether
// or not the two means do. A model without error (residual 0) gives differences without t and p.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/stats/linear_model.h"
#include "analysis/stats/marginal_means.h"

namespace loupe::analysis::stats {

struct Comparison {
  std::string first, second;  // level names; factors joined by ", "
  bool estimable = false;
  std::string reason;     // one sentence, why it is not estimable; else empty
  double difference = 0;  // first − second; NaN when not estimable, as all below
  double std_error = 0;
  double t = 0;
  double p = 0;          // unadjusted
  double p_tukey = 0;    // all pairs: studentized range (Kramer 1956 where standard errors differ)
  double p_dunnett = 0;  // baseline: NaN where the means' correlations are not of Dunnett's product form
  double p_holm = 0;
  double p_benjamini_hochberg = 0;
  double low = 0, high = 0;  // simultaneous: Tukey for all pairs, Dunnett (else Bonferroni) for a baseline
};

// Every pair, in the order of `means`. Tukey's k is the number of means, estimable or not (as emmeans: never too
// small); Holm and Benjamini–Hochberg count the estimable pairs.
std::vector<Comparison> CompareAllPairs(const LinearModel& model, const MarginalMeans& means);

// The same without what costs the integrals: p_tukey, low and high are NaN.
std::vector<Comparison> DifferencesOfAllPairs(const LinearModel& model, const MarginalMeans& means);

// Every other mean minus the one with the levels `baseline`. NotFound: no such combination (the sentence lists them).
absl::StatusOr<std::vector<Comparison>> CompareToBaseline(const LinearModel& model, const MarginalMeans& means,
                                                          const std::vector<std::string>& baseline);

// Multiple comparisons with the best, Hsu (1984) Annals of Statistics 12:1136; unequal errors as in Hsu (1996) §4.2.
struct BestComparison {
  std::string levels;
  double mean = 0;
  double low = 0, high = 0;  // constrained interval of (its mean − the best of the others)
  bool may_be_best = false;  // high > 0: cannot be told from the best at this confidence
};
// Not estimable means are left out. With `smaller_is_better` the signs of the data are turned round inside; `mean`
// stays. InvalidArgument: fewer than two estimable means.
absl::StatusOr<std::vector<BestComparison>> CompareWithBest(const LinearModel& model, const MarginalMeans& means,
                                                            bool smaller_is_better = false);

}  // namespace loupe::analysis::stats
