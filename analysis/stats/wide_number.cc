#include "analysis/stats/wide_number.h"

#include <string_view>

#include "boost/multiprecision/cpp_bin_float.hpp"
#include "fmt/format.h"

namespace loupe::analysis::stats {

std::string WideNumber::Decimal(int digits) const {
  if (fraction_ == 0 || !std::isfinite(fraction_)) return fmt::format("{}", fraction_);
  using Float = boost::multiprecision::cpp_bin_float_100;
  const Float value = boost::multiprecision::ldexp(Float(fraction_), exponent_);
  return value.str(std::max(1, digits) - 1, std::ios_base::scientific);
}

}  // namespace loupe::analysis::stats
