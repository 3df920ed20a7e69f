// Effect sizes of one F test, with confidence intervals from the noncentral F distribution.
//
// With SS, df of the term, SSE, dfe, MSE of the residual and SST of the whole (corrected) total, N observations:
//   η²  = SS/SST                                   partial η² = SS/(SS+SSE)
//   ω²  = (SS − df·MSE)/(SST + MSE)                partial ω² = (SS − df·MSE)/(SS + (N − df)·MSE)
//   ε²  = (SS − df·MSE)/SST                        partial ε² = (SS − df·MSE)/(SS + SSE)
//   Cohen's f = sqrt(partial η²/(1 − partial η²))
// Interval of partial η²: λ/(λ + df + dfe + 1) at the ends of λ (Smithson 2001, Educ. Psychol. Meas. 61:605).
// Sources: Cohen (1988) ch. 8; Olejnik & Algina (2003) Psychological Methods 8:434; Kelley (1935) for ε².
// ω² and ε² may be negative in a sample; they are reported as they are (cutting at 0 biases them).
#pragma once

namespace loupe::analysis::stats {

struct EffectSize {
  double eta_sq = 0;
  double partial_eta_sq = 0;
  double partial_eta_sq_low = 0;  // two-sided interval at the asked confidence
  double partial_eta_sq_high = 0;
  double omega_sq = 0;
  double partial_omega_sq = 0;
  double epsilon_sq = 0;
  double partial_epsilon_sq = 0;
  double cohens_f = 0;
};

struct FTest {
  double df = 0, sum_sq = 0;                    // the term
  double residual_df = 0, residual_sum_sq = 0;  // its error
  double total_sum_sq = 0;                      // corrected for the mean
  double n = 0;                                 // observations
};

// Preconditions: df > 0, residual_df > 0, residual_sum_sq > 0. Else every field is NaN.
EffectSize ComputeEffectSize(const FTest& test, double confidence);

// Interval of the noncentrality λ that makes the observed F(df1, df2) its (1±confidence)/2 quantiles (Steiger 2004,
// Psychological Methods 9:164). The lower end is 0 where F is too small for a positive one.
struct NoncentralityInterval {
  double low = 0, high = 0;
};
NoncentralityInterval NoncentralFInterval(double f, double df1, double df2, double confidence);

}  // namespace loupe::analysis::stats
