// The largest of several t statistics that share one control mean and one error estimate: Dunnett's comparisons with a
// baseline, and Hsu's with the best.
//
// T_i = (Z_i·√(1 − λ_i²) − λ_i·Z_0)/S with independent normals Z and S = √(χ²(df)/df), so corr(T_i, T_j) = λ_i λ_j. For
// independent means with n_i observations and n_0 in the control, λ_i = √(n_i/(n_i + n_0)) (Dunnett 1955, JASA
// 50:1096); equal n: λ = √½. Double integral by Gauss–Legendre panels.
#pragma once

#include <vector>

namespace loupe::analysis::stats {

// P(max |T_i| > t). Every λ in [0, 1); df > 0, may be infinite.
double DunnettTwoSidedUpperTail(double t, const std::vector<double>& lambda, double df);
// P(max T_i > t).
double DunnettOneSidedUpperTail(double t, const std::vector<double>& lambda, double df);

// t with an upper tail of `alpha`; NaN unless 0 < alpha < 1.
double DunnettTwoSidedQuantile(double alpha, const std::vector<double>& lambda, double df);
double DunnettOneSidedQuantile(double alpha, const std::vector<double>& lambda, double df);

}  // namespace loupe::analysis::stats
