// Numbers as people read them. Independent of the locale.
#pragma once

#include <string>
#include <string_view>

#include "analysis/stats/wide_number.h"

namespace loupe::analysis::report {

// About `digits` significant digits, plain where it stays short ("0.8213", "12.3", "1203"), scientific for very small
// and very large ones. "–" for NaN.
std::string FormatNumber(double value, int digits = 4);
// The same for sums of squares, also those that no double holds: "3.22e+412".
std::string FormatNumber(const stats::WideNumber& value, int digits = 4);

// "0.0123", "<0.0001", "–" for NaN.
std::string FormatP(double p);

// "***" below 0.001, "**" below 0.01, "*" below 0.05, else nothing.
std::string_view SignificanceStars(double p);

// Degrees of freedom and other counts that may be fractional: "12", "7.35".
std::string FormatCount(double value);

// A large count in three or more digits: "860", "52224", "1.20 M", "860 M", "1.30 G"; whole numbers below a million.
std::string FormatAmount(double count);
// Bytes in three digits: "999 B", "168 kB", "24.0 MB", "1.72 GB" (1 kB is 1,000 B). Both: "–" for NaN.
std::string FormatSize(double bytes);

// "[low, high]", or "–" if either is NaN.
std::string FormatInterval(double low, double high, int digits = 4);

// Characters (code points) of UTF-8 text: what a terminal column counts, for the plain letters and signs used here.
size_t DisplayWidth(std::string_view text);
std::string PadRight(std::string_view text, size_t width);
std::string PadLeft(std::string_view text, size_t width);

}  // namespace loupe::analysis::report
