// A number with an exponent of its own: sums of squares of very large and very small responses, which no double holds.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>

namespace loupe::analysis::stats {

// fraction · 2^exponent. Reads as a double where one is wanted; beyond a double's range that is ±∞ or 0, so what is
// shown to people goes by Decimal().
class WideNumber {
 public:
  WideNumber(double value = 0) : fraction_(value) {}  // NOLINT: a double is one
  WideNumber(double fraction, int exponent) : fraction_(fraction), exponent_(exponent) {}

  operator double() const { return std::ldexp(fraction_, exponent_); }  // NOLINT

  // False for what a double can only give as ±∞ or with lost digits (below 2.2e-308).
  bool FitsDouble() const {
    const double value = *this;
    return fraction_ == 0 || std::isnan(fraction_) || std::isnormal(value) || std::isinf(fraction_);
  }
  // "3.217e+412": scientific, `digits` digits in all.
  std::string Decimal(int digits) const;

 private:
  double fraction_ = 0;
  int exponent_ = 0;
};

// A power of two near the largest of a set of magnitudes: divided by 2^exponent they are at most 1, and their squares
// neither overflow nor vanish, while no digit changes. Magnitudes below 2^-1000 are not brought up all the way, so that
// 2^±exponent stays a double.
class PowerOfTwo {
 public:
  PowerOfTwo() = default;
  explicit PowerOfTwo(double largest_magnitude) {
    if (!(largest_magnitude > 0) || !std::isfinite(largest_magnitude)) return;
    std::frexp(largest_magnitude, &exponent_);
    exponent_ = std::max(exponent_, -1000);
    down_ = std::ldexp(1.0, -exponent_);
  }

  int exponent() const { return exponent_; }
  double Down(double value) const { return value * down_; }                      // value/2^exponent
  double Up(double value) const { return std::ldexp(value, exponent_); }         // value·2^exponent
  WideNumber UpSquared(double square) const { return {square, 2 * exponent_}; }  // square·4^exponent

 private:
  int exponent_ = 0;
  double down_ = 1;
};

}  // namespace loupe::analysis::stats
