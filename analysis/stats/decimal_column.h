// A column of decimals read without loss, centred before it is rounded to double.
//
// Why: 1000000000000.4 and 1000000000000.3 differ by 0.1000 in decimal but by 0.0999755859375 after rounding each to
// double; a variance formed from the rounded ones has three good digits. Here v − origin is formed exactly (64-bit
// integers at a common power of ten; 50-digit decimals where those do not fit) and rounded once.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "analysis/stats/data_table.h"

namespace loupe::analysis::stats {

// The number in `text` (the notation of DecimalColumn::Append, without blanks) in one spelling: "-12e-4" for "-0.0012",
// "0" for
// "-0.00"; equal for two texts exactly when they are the same decimal number. Empty if `text` is none.
std::string CanonicalDecimal(std::string_view text);

// The nearest double. Nothing if `text` is no number in that notation, or beyond what a double holds.
std::optional<double> DecimalValue(std::string_view text);

class DecimalColumn {
 public:
  // Appends a number in plain or scientific notation ("-12.5", "1e-3"; surrounding blanks allowed). False, and nothing
  // appended, if `text` is not a finite decimal number.
  bool Append(std::string_view text);
  void AppendMissing();
  size_t size() const { return mantissa_.size(); }

  // Sets table.response_origin (near the mean) and response_deviation (NaN where missing).
  void FillResponse(DataTable& table) const;

 private:
  bool FillExactly(DataTable& table) const;
  void FillInFiftyDigits(DataTable& table) const;

  std::vector<int64_t> mantissa_;
  std::vector<int32_t> exponent_;                     // value = mantissa·10^exponent; kMissing/kWide are markers
  std::vector<std::pair<size_t, std::string>> wide_;  // numbers of more than 18 digits, as written
};

}  // namespace loupe::analysis::stats
