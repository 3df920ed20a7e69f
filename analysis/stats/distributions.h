// Tail probabilities and quantiles used throughout, on Boost.Math with a policy that returns instead of throwing.
//
// Domain errors (non-positive degrees of freedom, NaN) give NaN. Probabilities below 1e-308 give 0.
#pragma once

namespace loupe::analysis::stats {

// P(F(df1, df2) > f).
double FUpperTail(double f, double df1, double df2);
// f with P(F(df1, df2) ≤ f) = probability.
double FQuantile(double probability, double df1, double df2);
// P(F'(df1, df2, λ) ≤ f), the noncentral F; λ = 0 is the central one.
double NoncentralFCdf(double f, double df1, double df2, double noncentrality);
// 2·P(T(df) > |t|).
double TTwoSided(double t, double df);
// t with P(T(df) ≤ t) = probability.
double TQuantile(double probability, double df);
// P(χ²(df) > x).
double ChiSquaredUpperTail(double x, double df);
double NormalCdf(double z);
double NormalUpperTail(double z);
double NormalQuantile(double probability);

}  // namespace loupe::analysis::stats
