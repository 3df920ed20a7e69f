// The studentized range Q = (max − min of k independent normals)/S, which Tukey's comparisons need and Boost.Math
// lacks.
//
//   P(Q ≤ q) = ∫ f_df(s) · W(q s) ds,   W(w) = k ∫ φ(z) [Φ(z) − Φ(z − w)]^(k−1) dz
// (Tukey 1953; Copenhaver & Holland 1988, J. Statist. Comput. Simul. 30:1), by Gauss–Legendre panels. Absolute
// accuracy about 1e-11 (against scipy; R's ptukey loses digits below 10 degrees of freedom, e.g. 2e-4 at 2).
#pragma once

namespace loupe::analysis::stats {

// P(Q > q) for k ≥ 2 means and df > 0 (may be infinite). q ≤ 0 gives 1; NaN arguments give NaN.
double StudentizedRangeUpperTail(double q, int k, double df);

// q with P(Q ≤ q) = probability, 0 < probability < 1; NaN outside.
double StudentizedRangeQuantile(double probability, int k, double df);

}  // namespace loupe::analysis::stats
