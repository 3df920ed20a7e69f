// "There is no such number": what a statistic that cannot be estimated holds.
#pragma once

#include <limits>

namespace loupe::analysis::stats {

inline constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

}  // namespace loupe::analysis::stats
