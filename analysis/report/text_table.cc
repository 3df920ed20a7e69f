#include "analysis/report/text_table.h"

#include <algorithm>
#include <utility>

#include "analysis/report/number_format.h"
#include "common/text.h"

namespace loupe::analysis::report {

TextTable::TextTable(std::vector<std::string> header, size_t left_columns) : left_columns_(left_columns) {
  Add(std::move(header));
}

void TextTable::Add(std::vector<std::string> row) {
  for (std::string& cell : row) cell = Printable(cell);
  rows_.push_back(std::move(row));
}

std::string TextTable::Text() const {
  std::vector<size_t> widths(rows_[0].size(), 0);
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], DisplayWidth(row[i]));
  }
  std::string text;
  const auto finish_line = [&text] {
    text.erase(text.find_last_not_of(' ') + 1);
    text += '\n';
  };
  for (size_t r = 0; r < rows_.size(); ++r) {
    text += "  ";
    for (size_t i = 0; i < rows_[r].size(); ++i) {
      if (i > 0) text += "  ";
      text += i < left_columns_ ? PadRight(rows_[r][i], widths[i]) : PadLeft(rows_[r][i], widths[i]);
    }
    finish_line();
    if (r > 0) continue;
    text += "  ";
    for (size_t i = 0; i < widths.size(); ++i) {
      if (i > 0) text += "  ";
      text += std::string(widths[i], '-');
    }
    finish_line();
  }
  return text;
}

std::string WrapText(std::string_view text, size_t width, std::string_view first, std::string_view rest) {
  std::string out, line(first);
  bool empty = true;
  size_t at = 0;
  while (at < text.size()) {
    const size_t end = std::min(text.find(' ', at), text.size());
    const std::string_view word = text.substr(at, end - at);
    at = end + 1;
    if (!empty && DisplayWidth(line) + 1 + DisplayWidth(word) > width) {
      out += line + '\n';
      line = rest;
      empty = true;
    }
    if (!empty) line += ' ';
    line += word;
    empty = false;
  }
  return out + line + '\n';
}

}  // namespace loupe::analysis::report
