// Reads a DataTable from a CSV file: RFC 4180 quoting; lines end in LF, CRLF or CR; UTF-8, UTF-16 and UTF-32, and any
// other encoding that is named (csv_encoding.h); comma, semicolon, tab or '|' between fields: the one that a line
// "sep=;" names, else the one with which the header has most of the wanted columns.
//
// Lines that begin with '#' are comments before the header. After it they are data, since levels may begin so
// (colours); one that has a single field where the header has more is left out with a warning. Which texts are missing
// values and which are spellings of one level: level_names.h.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/stats/data_table.h"

namespace loupe::analysis::stats {

struct CsvOptions {
  std::string response;              // column with the numbers
  std::vector<std::string> factors;  // columns to read as categories, in this order; a number column is fine
  std::string block;                 // optional: one more categorical column, appended to the factors
  // Optional column with what became of each row: complete/completed/succeeded/ok/done, failed, cancelled/canceled,
  // stopped_early/pruned (any case). Empty: every row counts as complete.
  std::string status_column;
  // Of the bytes, as iconv calls it ("windows-1252"). Empty: found out, or refused.
  std::string encoding = {};
};

// `bytes` are the file's. InvalidArgument with a sentence that names line and column: another encoding, unknown or
// repeated column, a row with too few or too many fields, an unterminated quote, a response that is not a finite
// number, an unknown status, no data rows. Lines repeated word for word are kept (replicates may agree) and reported in
// DataTable::warnings.
absl::StatusOr<DataTable> ReadCsvTable(std::string_view bytes, const CsvOptions& options);

}  // namespace loupe::analysis::stats
