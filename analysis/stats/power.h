// Power of F tests and the smallest effect they can see, before a trial is run.
//
// The F of a term follows the noncentral F with λ = f²·n, f Cohen's effect size (√(variance of the effects/σ²)), n all
// observations (Cohen 1988 §8.2–8.3).
#pragma once

namespace loupe::analysis::stats {

struct FTestPlan {
  double df = 0;  // of the term
  double residual_df = 0;
  double n = 0;  // observations
  double alpha = 0.05;
};

// P(reject) for a true effect size f ≥ 0. NaN when a degree of freedom is not positive.
double FTestPower(const FTestPlan& plan, double cohens_f);

// The f at which the power is reached; NaN as above or unless alpha < power < 1.
double MinimumDetectableF(const FTestPlan& plan, double power = 0.8);

// The same as a distance δ between two level means in units of σ, sure to be seen wherever the other levels lie: λ =
// δ²/v with v the variance of the estimated difference in units of σ² (pair_information.h; 2k/n for k balanced levels).
double MinimumDetectableDifference(const FTestPlan& plan, double variance, double power = 0.8);

// Smallest number of replicates of a design with `cells` cells and `parameters` model parameters (the mean and blocks −
// 1 included by adding `blocks_are_replicates`) whose power for an effect f of `df` degrees of freedom reaches `power`;
// 0 if more than 10,000 would be needed.
int ReplicatesNeeded(int cells, int parameters, double df, double cohens_f, double alpha, double power,
                     bool blocks_are_replicates);

}  // namespace loupe::analysis::stats
