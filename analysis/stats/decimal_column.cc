#include "analysis/stats/decimal_column.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include "analysis/stats/trim.h"
#include "boost/multiprecision/cpp_dec_float.hpp"

namespace loupe::analysis::stats {
namespace {

constexpr int32_t kMissing = std::numeric_limits<int32_t>::min();
constexpr int32_t kWide = std::numeric_limits<int32_t>::max();
constexpr int kMaxDigits = 18;           // 10^18 < 2^63
constexpr int kLeastPowerOfTen = -400;   // the least double is 4.9·10^-324
constexpr int kMaxExactPowerOfTen = 22;  // 10^22 is the largest power of ten that a double holds exactly

using Decimal = boost::multiprecision::cpp_dec_float_50;

struct Parsed {
  int64_t mantissa = 0;
  int32_t exponent = 0;
  bool wide = false;
};

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

bool Parse(std::string_view text, Parsed& out) {
  size_t i = 0;
  const bool negative = !text.empty() && text[0] == '-';
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) i = 1;
  int significant = 0;
  int digits = 0;
  int32_t exponent = 0;
  int64_t mantissa = 0;
  bool after_point = false;
  for (; i < text.size(); ++i) {
    if (text[i] == '.' && !after_point) {
      after_point = true;
      continue;
    }
    if (!IsDigit(text[i])) break;
    ++digits;
    if (after_point) --exponent;
    if (significant > 0 || text[i] != '0') ++significant;
    if (significant <= kMaxDigits) mantissa = mantissa * 10 + (text[i] - '0');
  }
  if (digits == 0) return false;
  if (i < text.size() && (text[i] == 'e' || text[i] == 'E')) {
    ++i;
    const bool down = i < text.size() && text[i] == '-';
    if (i < text.size() && (text[i] == '-' || text[i] == '+')) ++i;
    const size_t first = i;
    int32_t power = 0;
    for (; i < text.size() && IsDigit(text[i]); ++i) power = std::min(power * 10 + (text[i] - '0'), 100000);
    if (i == first) return false;
    exponent += down ? -power : power;
  }
  if (i != text.size()) return false;
  if (mantissa != 0 && exponent + significant > 308) return false;  // not a finite double
  // Far below what a double can tell from 0, and at some point below what a wide decimal can hold.
  if (exponent + significant < kLeastPowerOfTen) {
    out = {};
    return true;
  }
  out = {negative ? -mantissa : mantissa, mantissa == 0 ? 0 : exponent, significant > kMaxDigits};
  return true;
}

const std::array<int64_t, kMaxDigits + 1>& PowersOfTen() {
  static const std::array<int64_t, kMaxDigits + 1> powers = [] {
    std::array<int64_t, kMaxDigits + 1> result{};
    result[0] = 1;
    for (size_t i = 1; i < result.size(); ++i) result[i] = result[i - 1] * 10;
    return result;
  }();
  return powers;
}

}  // namespace

std::string CanonicalDecimal(std::string_view text) {
  constexpr size_t kMostExponentDigits = 9;
  size_t i = !text.empty() && (text[0] == '-' || text[0] == '+') ? 1 : 0;
  std::string digits;
  int64_t exponent = 0;
  bool after_point = false, has_digits = false;
  for (; i < text.size() && (IsDigit(text[i]) || (text[i] == '.' && !after_point)); ++i) {
    if (text[i] == '.') {
      after_point = true;
      continue;
    }
    has_digits = true;
    if (after_point) --exponent;
    if (!digits.empty() || text[i] != '0') digits += text[i];
  }
  if (!has_digits) return "";
  if (i < text.size() && (text[i] == 'e' || text[i] == 'E')) {
    ++i;
    const bool down = i < text.size() && text[i] == '-';
    if (i < text.size() && (text[i] == '-' || text[i] == '+')) ++i;
    const size_t first = i;
    int64_t power = 0;
    for (; i < text.size() && IsDigit(text[i]); ++i) {
      if (i - first == kMostExponentDigits) return "";
      power = power * 10 + (text[i] - '0');
    }
    if (i == first) return "";
    exponent += down ? -power : power;
  }
  if (i != text.size()) return "";
  if (digits.empty()) return "0";
  while (digits.back() == '0') {
    digits.pop_back();
    ++exponent;
  }
  return (text[0] == '-' ? "-" : "") + digits + "e" + std::to_string(exponent);
}

std::optional<double> DecimalValue(std::string_view text) {
  if (CanonicalDecimal(text).empty()) return std::nullopt;
  if (text.front() == '+') text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

bool DecimalColumn::Append(std::string_view text) {
  text = Trim(text);
  Parsed parsed;
  if (!Parse(text, parsed)) return false;
  if (parsed.wide) {
    if (text.front() == '+') text.remove_prefix(1);
    wide_.emplace_back(mantissa_.size(), std::string(text));
  }
  mantissa_.push_back(parsed.mantissa);
  exponent_.push_back(parsed.wide ? kWide : parsed.exponent);
  return true;
}

void DecimalColumn::AppendMissing() {
  mantissa_.push_back(0);
  exponent_.push_back(kMissing);
}

void DecimalColumn::FillResponse(DataTable& table) const {
  if (wide_.empty() && FillExactly(table)) return;
  FillInFiftyDigits(table);
}

bool DecimalColumn::FillExactly(DataTable& table) const {
  int32_t lowest = 0;
  for (size_t i = 0; i < mantissa_.size(); ++i) {
    if (exponent_[i] != kMissing) lowest = std::min(lowest, exponent_[i]);
  }
  if (lowest < -kMaxExactPowerOfTen) return false;
  std::vector<int64_t> scaled(mantissa_.size());
  __int128 sum = 0;
  int64_t count = 0;
  int64_t least = std::numeric_limits<int64_t>::max(), greatest = std::numeric_limits<int64_t>::min();
  for (size_t i = 0; i < mantissa_.size(); ++i) {
    if (exponent_[i] == kMissing) continue;
    const int32_t shift = exponent_[i] - lowest;
    if (shift > kMaxDigits) {
      if (mantissa_[i] != 0) return false;
      least = std::min(least, int64_t{0});
      greatest = std::max(greatest, int64_t{0});
      ++count;
      continue;
    }
    const __int128 value = static_cast<__int128>(mantissa_[i]) * PowersOfTen()[static_cast<size_t>(shift)];
    const __int128 limit = std::numeric_limits<int64_t>::max() / 2;  // differences must fit as well
    if (value > limit || value < -limit) return false;
    scaled[i] = static_cast<int64_t>(value);
    sum += value;
    ++count;
    least = std::min(least, scaled[i]);
    greatest = std::max(greatest, scaled[i]);
  }
  const bool near = count > 0 && AreNearEachOther(static_cast<double>(least), static_cast<double>(greatest));
  const int64_t origin = near ? static_cast<int64_t>(sum / count) : 0;
  double unit = 1.0;  // exact: at most 10^22
  for (int32_t i = 0; i > lowest; --i) unit *= 10.0;
  table.response_origin = static_cast<double>(origin) / unit;
  table.response_deviation.resize(mantissa_.size());
  for (size_t i = 0; i < mantissa_.size(); ++i) {
    table.response_deviation[i] = exponent_[i] == kMissing ? std::numeric_limits<double>::quiet_NaN()
                                                           : static_cast<double>(scaled[i] - origin) / unit;
  }
  return true;
}

void DecimalColumn::FillInFiftyDigits(DataTable& table) const {
  std::vector<Decimal> values(mantissa_.size());
  auto next_wide = wide_.begin();
  Decimal sum = 0, least = 0, greatest = 0;
  int64_t count = 0;
  for (size_t i = 0; i < mantissa_.size(); ++i) {
    if (exponent_[i] == kMissing) continue;
    if (exponent_[i] == kWide) {
      values[i] = Decimal(next_wide->second);
      ++next_wide;
    } else {
      values[i] = Decimal(mantissa_[i]) * boost::multiprecision::pow(Decimal(10), exponent_[i]);
    }
    sum += values[i];
    if (count == 0 || values[i] < least) least = values[i];
    if (count == 0 || values[i] > greatest) greatest = values[i];
    ++count;
  }
  const bool near = count > 0 && AreNearEachOther(least.convert_to<double>(), greatest.convert_to<double>());
  const Decimal origin = near ? Decimal(sum / count) : Decimal(0);
  table.response_origin = origin.convert_to<double>();
  table.response_deviation.resize(mantissa_.size());
  for (size_t i = 0; i < mantissa_.size(); ++i) {
    table.response_deviation[i] = exponent_[i] == kMissing ? std::numeric_limits<double>::quiet_NaN()
                                                           : Decimal(values[i] - origin).convert_to<double>();
  }
}

}  // namespace loupe::analysis::stats
