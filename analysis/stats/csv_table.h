// Reads a DataTable from CSV text (RFC 4180 quoting; separator comma, semicolon or tab, taken from the header line;
// UTF-8 BOM and CRLF accepted). Missing values: empty, NA, NaN, null (any case).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/stats/data_table.h"

namespace loupe::analysis {

struct CsvOptions {
  std::string response;              // column with the numbers
  std::vector<std::string> factors;  // columns to read as categories, in this order; a number column is fine
  std::string block;                 // optional: one more categorical column, appended to the factors
  // Optional column with what became of each row: complete/completed/succeeded/ok/done, failed, cancelled/canceled,
  // stopped_early/pruned (any case). Empty: every row counts as complete.
  std::string status_column;
};

// InvalidArgument with a sentence that names line and column: unknown or repeated column, a row with too few or too many
// fields, an unterminated quote, a response that is not a finite number, an unknown status, no data rows. Lines repeated
// word for word are kept (replicates may agree) and reported in DataTable::warnings.
absl::StatusOr<DataTable> ReadCsvTable(std::string_view text, const CsvOptions& options);

}  // namespace loupe::analysis
