// Splits CSV text into records (RFC 4180): quoted fields may hold separators, doubled quotes and line breaks.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace loupe::analysis::stats {

// Walks over `text` (UTF-8 without a byte order mark, see csv_encoding.h), which must outlive the reader. Empty lines
// are skipped; lines end in LF, CRLF or a CR alone. A first line "sep=;" (as spreadsheets write it) is no record and
// names the separator.
class CsvReader {
 public:
  static constexpr std::string_view kSeparators = ",;\t|";

  // `separator` is overruled by a "sep=" line; 0 means the one of kSeparators that occurs most in the first record
  // (outside quotes).
  explicit CsvReader(std::string_view text, char separator = '\0');

  // Fills `fields` with the next record's; they live until the next call. False at the end.
  // InvalidArgument: a quote that is never closed, or text after a closing quote (the sentence names the line).
  absl::StatusOr<bool> Next(std::vector<std::string_view>& fields);

  char separator() const { return separator_; }
  int64_t line() const { return record_line_; }             // where the last record began, from 1
  std::string_view record() const { return record_text_; }  // the last record as written, without its line end

 private:
  absl::Status ReadQuoted(std::vector<std::string_view>& fields);
  size_t LineEnd();      // of the line at at_: where its CR, LF or the text's end is
  void SkipLineBreak();  // precondition: at_ is a LineEnd()

  std::string_view text_;
  size_t at_ = 0;
  size_t next_line_feed_ =
      0;  // the first from at_ on, once it has been looked for: a text without any is searched once
  int64_t line_ = 1;
  int64_t record_line_ = 0;
  std::string_view record_text_;
  char separator_ = ',';
  std::deque<std::string> unquoted_;  // fields that had to be rewritten
};

}  // namespace loupe::analysis::stats
