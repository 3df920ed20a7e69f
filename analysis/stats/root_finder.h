// Where a function of one variable crosses zero.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "analysis/stats/nan.h"
#include "boost/math/tools/toms748_solve.hpp"

namespace loupe::analysis::stats {

// The root of `f` between `from` and `to` (in either order) to `bits` bits, by Algorithm 748 (Alefeld, Potra & Shi
// 1995). NaN where f has no sign change there or is not a number: Boost's own function throws then.
template <typename Function>
double FindRoot(const Function& f, double from, double to, int bits) {
  const double low = std::min(from, to), high = std::max(from, to);
  const double at_low = f(low), at_high = f(high);
  if (at_low == 0) return low;
  if (at_high == 0) return high;
  if (!(low < high) || !((at_low < 0) != (at_high < 0)) || std::isnan(at_low) || std::isnan(at_high)) return kNaN;
  bool defined = true;
  const auto guarded = [&](double x) {
    const double value = f(x);
    if (!std::isnan(value)) return std::clamp(value, -1e300, 1e300);
    defined = false;
    return 0.0;  // ends the search
  };
  std::uintmax_t iterations = 200;
  const auto [a, b] = boost::math::tools::toms748_solve(guarded, low, high, std::clamp(at_low, -1e300, 1e300),
                                                        std::clamp(at_high, -1e300, 1e300),
                                                        boost::math::tools::eps_tolerance<double>(bits), iterations);
  return defined ? 0.5 * (a + b) : kNaN;
}

}  // namespace loupe::analysis::stats
