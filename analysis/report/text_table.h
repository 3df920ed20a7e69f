// Columns of text for a terminal: a header, a rule, rows; the first columns left-aligned, the rest right.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace loupe::analysis::report {

class TextTable {
 public:
  explicit TextTable(std::vector<std::string> header, size_t left_columns = 1);
  // As many entries as the header has; each is made Printable (common/text.h).
  void Add(std::vector<std::string> row);
  std::string Text() const;  // each line ends in '\n'; no trailing blanks

 private:
  size_t left_columns_;
  std::vector<std::vector<std::string>> rows_;  // the header first
};

// Breaks `text` at blanks into lines of at most `width` columns; the first begins with `first`, the others with `rest`.
std::string WrapText(std::string_view text, size_t width, std::string_view first, std::string_view rest);

}  // namespace loupe::analysis::report
