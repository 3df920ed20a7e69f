// Splits CSV text into records (RFC 4180): quoted fields may hold separators, doubled quotes and line breaks.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace loupe::analysis {

// Walks over `text`, which must outlive the reader. A UTF-8 byte order mark, empty lines and lines that begin with '#'
// are skipped; lines end in LF or CRLF. The separator is the one of , ; tab that occurs most in the first record
// (outside quotes).
class CsvReader {
 public:
  explicit CsvReader(std::string_view text);

  // Fills `fields` with the next record's; they live until the next call. False at the end.
  // InvalidArgument: a quote that is never closed, or text after a closing quote (the sentence names the line).
  absl::StatusOr<bool> Next(std::vector<std::string_view>& fields);

  int64_t line() const { return record_line_; }            // where the last record began, from 1
  std::string_view record() const { return record_text_; }  // the last record as written, without its line end

 private:
  absl::Status ReadQuoted(std::vector<std::string_view>& fields);

  std::string_view text_;
  size_t at_ = 0;
  int64_t line_ = 1;
  int64_t record_line_ = 0;
  std::string_view record_text_;
  char separator_ = ',';
  std::deque<std::string> unquoted_;  // fields that had to be rewritten
};

}  // namespace loupe::analysis
