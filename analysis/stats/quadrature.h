// Integrals over the scale of an estimated standard deviation, for the distributions that Boost.Math has not.
#pragma once

#include <functional>

namespace loupe::analysis::stats {

// E[g(S)] with S = √(χ²(df)/df), the ratio of an estimated to a true standard deviation: ∫ f_df(s)·g(s) ds by 20-point
// Gauss–Legendre panels, geometric in s, between the quantiles 1e-18 and 1 − 1e-18 of S. df = ∞ gives g(1). `g` smooth,
// within [0, 1].
double ExpectationOverScale(double df, const std::function<double(double)>& g);

// ∫_low^high g by `panels` 20-point Gauss–Legendre panels.
double GaussLegendre(const std::function<double(double)>& g, double low, double high, int panels);

}  // namespace loupe::analysis::stats
