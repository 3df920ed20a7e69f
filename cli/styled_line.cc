#include "cli/styled_line.h"

#include <algorithm>
#include <cmath>

#include "analysis/report/number_format.h"
#include "common/text.h"
#include "fmt/format.h"

namespace loupe::cli {
namespace {

int ColumnsOf(std::string_view text) { return static_cast<int>(analysis::report::DisplayWidth(text)); }

// The bytes of the first `columns` characters.
size_t BytesOf(std::string_view text, int columns) {
  size_t end = 0;
  for (int column = 0; column < columns && end < text.size(); ++column)
    end += std::max<size_t>(1, CharacterLength(text.substr(end)));
  return end;
}

std::string Repeated(std::string_view glyph, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += glyph;
  return text;
}

}  // namespace

StyledLine& StyledLine::Add(std::string_view text, Style style) {
  if (!text.empty()) pieces_.push_back({Printable(text), style});
  return *this;
}

StyledLine& StyledLine::PadTo(int column) {
  if (const int missing = column - width(); missing > 0) Add(std::string(static_cast<size_t>(missing), ' '));
  return *this;
}

StyledLine& StyledLine::AddRight(const StyledLine& right, int width) {
  if (right.width() == 0 || this->width() + 2 + right.width() > width) return *this;
  PadTo(width - right.width());
  pieces_.insert(pieces_.end(), right.pieces_.begin(), right.pieces_.end());
  return *this;
}

int StyledLine::width() const {
  int columns = 0;
  for (const Piece& piece : pieces_) columns += ColumnsOf(piece.text);
  return columns;
}

StyledLine StyledLine::ClippedTo(int width, bool mark) const {
  if (this->width() <= width) return *this;
  StyledLine clipped;
  int left = mark ? width - 1 : width;
  for (const Piece& piece : pieces_) {
    if (left <= 0) break;
    clipped.pieces_.push_back({piece.text.substr(0, BytesOf(piece.text, left)), piece.style});
    left -= ColumnsOf(clipped.pieces_.back().text);
  }
  if (mark && width > 0) clipped.pieces_.push_back({"…", kFaint});
  return clipped;
}

std::string StyledLine::Plain() const {
  std::string text;
  for (const Piece& piece : pieces_) text += piece.text;
  // Columns are padded; the end of a line is not.
  text.resize(text.find_last_not_of(' ') + 1);
  return text;
}

std::string StyledLine::Coloured() const {
  std::string text;
  for (const Piece& piece : pieces_) {
    std::string codes;
    if (piece.style.bold) codes += ";1";
    if (piece.style.faint) codes += ";2";
    if (piece.style.colour >= 0) codes += fmt::format(";38;5;{}", piece.style.colour);
    text += codes.empty() ? piece.text : fmt::format("\x1b[{}m{}\x1b[m", codes.substr(1), piece.text);
  }
  return text;
}

std::string PlainText(const std::vector<StyledLine>& lines) {
  std::string text;
  for (const StyledLine& line : lines) text += line.Plain() + "\n";
  return text;
}

std::string BlockBar(double fraction, int width) {
  const int filled = std::clamp(static_cast<int>(std::floor(fraction * width)), 0, width);
  return Repeated("█", filled) + Repeated("░", width - filled);
}

}  // namespace loupe::cli
