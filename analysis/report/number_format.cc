#include "analysis/report/number_format.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "fmt/format.h"

namespace loupe::analysis::report {

std::string FormatNumber(double value, int digits) {
  if (std::isnan(value)) return "–";
  if (std::isinf(value)) return value > 0 ? "∞" : "−∞";
  if (value == 0) return "0";
  const double magnitude = std::floor(std::log10(std::abs(value)));
  std::string text;
  if (magnitude < -4 || magnitude >= 7) {
    text = fmt::format("{:.{}e}", value, std::max(0, digits - 2));
  } else {
    text = fmt::format("{:.{}f}", value, std::max(0, digits - 1 - static_cast<int>(magnitude)));
  }
  if (text[0] == '-') text.replace(0, 1, "−");
  return text;
}

std::string FormatNumber(const stats::WideNumber& value, int digits) {
  if (value.FitsDouble()) return FormatNumber(static_cast<double>(value), digits);
  std::string text = value.Decimal(std::max(1, digits - 1));
  if (text[0] == '-') text.replace(0, 1, "−");
  return text;
}

std::string FormatP(double p) {
  if (std::isnan(p)) return "–";
  if (p < 0.0001) return "<0.0001";
  return fmt::format("{:.4f}", p);
}

std::string_view SignificanceStars(double p) {
  if (!(p < 0.05)) return "";
  return p < 0.001 ? "***" : p < 0.01 ? "**" : "*";
}

std::string FormatCount(double value) {
  if (std::isnan(value)) return "–";
  return value == std::floor(value) ? fmt::format("{:.0f}", value) : fmt::format("{:.2f}", value);
}

namespace {

// Three digits and a unit; `units` are a factor of 1,000 apart, the first is that of `value`.
std::string ThreeDigits(double value, std::initializer_list<std::string_view> units) {
  const std::string_view* unit = units.begin();
  while (value >= 999.5 && unit + 1 != units.end()) {
    value /= 1000;
    ++unit;
  }
  return fmt::format("{:.{}f}{}", value, value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2, *unit);
}

}  // namespace

std::string FormatAmount(double count) {
  if (std::isnan(count)) return "–";
  if (count < 999999.5) return fmt::format("{:.0f}", count);
  return ThreeDigits(count / 1e6, {" M", " G", " T"});
}

std::string FormatSize(double bytes) {
  if (std::isnan(bytes)) return "–";
  if (bytes < 999.5) return fmt::format("{:.0f} B", bytes);
  return ThreeDigits(bytes / 1000, {" kB", " MB", " GB", " TB"});
}

std::string FormatInterval(double low, double high, int digits) {
  if (std::isnan(low) || std::isnan(high)) return "–";
  return fmt::format("[{}, {}]", FormatNumber(low, digits), FormatNumber(high, digits));
}

size_t DisplayWidth(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::string PadRight(std::string_view text, size_t width) {
  const size_t have = DisplayWidth(text);
  return std::string(text) + std::string(width > have ? width - have : 0, ' ');
}

std::string PadLeft(std::string_view text, size_t width) {
  const size_t have = DisplayWidth(text);
  return std::string(width > have ? width - have : 0, ' ') + std::string(text);
}

}  // namespace loupe::analysis::report
