// A table of observations: categorical factors, one numeric response, and what became of each row.
//
// Law: every column has rows() entries; a factor's code is an index into its levels or kMissingLevel; a response's
// value is response_origin + response_deviation[row], NaN where missing. The split is what keeps data such as
// 1000000000000.4 exact: deviations are formed in decimal, before anything is rounded to double (see decimal_column.h).
// Plain data; safe to read from many threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"

namespace loupe::analysis::stats {

inline constexpr int32_t kMissingLevel = -1;

inline constexpr std::string_view kAbsentLevel = "–";

// What became of the trial behind a row. Only kComplete rows enter an analysis unless the caller asks for the stopped
// ones by name; all others are counted and reported (SampleAccount).
enum class RowStatus : uint8_t { kComplete, kFailed, kCancelled, kStoppedEarly };

struct Factor {
  std::string name;
  std::vector<std::string> levels;  // in display order; the first is the default baseline
  std::vector<int32_t> codes;       // one per row
  // A factor that exists at one level of another only, such as a method's own setting: that factor's name, and the
  // level. The last of `levels` is then kAbsentLevel, which all rows of the other levels have. Empty: it exists
  // everywhere. See nesting.h.
  std::string nested_in = {}, nested_level = {};
};

struct DataTable {
  std::string response_name;
  double response_origin = 0.0;
  std::vector<double> response_deviation;
  // How far a response may be from what was meant: half a unit in the last place of the largest double. 0 for decimals,
  // which are read exactly. Differences of this size say nothing.
  double response_rounding = 0.0;
  std::vector<Factor> factors;
  std::vector<RowStatus> status;      // empty means every row is kComplete
  std::vector<std::string> warnings;  // whole sentences, e.g. about duplicated lines; carried into every report

  size_t rows() const { return response_deviation.size(); }
  double Response(size_t row) const { return response_origin + response_deviation[row]; }
  RowStatus Status(size_t row) const { return status.empty() ? RowStatus::kComplete : status[row]; }

  // Index of the factor called `name`. NotFound names the factors there are and the nearest one.
  absl::StatusOr<size_t> FactorIndex(std::string_view name) const;
};

// How many rows there were and why some are not in the analysis. rows = used + all the others.
struct SampleAccount {
  int64_t rows = 0;
  int64_t used = 0;
  int64_t missing_response = 0;  // complete trials without a value (empty, NA, NaN)
  int64_t missing_level = 0;     // a factor of the model is empty in that row
  int64_t failed = 0;
  int64_t cancelled = 0;
  int64_t stopped_early = 0;  // left out; 0 when the caller asked to include them
  int64_t stopped_early_included = 0;

  // One sentence: "96 trials: 90 used, 4 failed, 2 stopped early."
  std::string Sentence() const;
};

// A factor to be filled row by row. `levels` fixes the order and refuses others; empty means: as they come, put in
// ascending order when all are numbers.
struct FactorSpec {
  std::string name;
  std::vector<std::string> levels;
};

// Puts the levels of a factor whose level names are all numbers in ascending order; others stay as they are.
void SortNumericLevels(Factor& factor);

// Whether values between these two are better held as deviations from one of them: all have one sign and are within a
// factor of two, so that their differences are exact in doubles (Sterbenz 1974) and smaller than they are. Otherwise
// the origin is 0.
bool AreNearEachOther(double least, double greatest);

// Fills response_origin, response_deviation and response_rounding from doubles (NaN = missing). Precondition: none is
// infinite.
void SetResponse(DataTable& table, std::vector<double> values);

// Builds a table from values already in memory. Single-threaded.
class DataTableBuilder {
 public:
  DataTableBuilder(std::string response_name, std::vector<FactorSpec> factors);

  // Adds a row: one level name per factor ("" = missing) and the response (NaN = missing). InvalidArgument, and no row
  // added, when the number of levels is wrong, a level is not among the fixed ones, or the response is infinite.
  absl::Status AddRow(const std::vector<std::string>& levels, double response, RowStatus status = RowStatus::kComplete);

  DataTable Build() &&;

 private:
  DataTable table_;
  std::vector<bool> fixed_levels_;
  std::vector<std::unordered_map<std::string, int32_t>> code_of_;  // per factor: level name -> code
  std::vector<double> values_;
};

}  // namespace loupe::analysis::stats
