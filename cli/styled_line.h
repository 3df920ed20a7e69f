// A line of a terminal's screen: text in pieces that have a colour each.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace loupe::cli {

// Of xterm's 256 colours; −1 is the terminal's own.
struct Style {
  int colour = -1;
  bool bold = false;
  bool faint = false;
};

inline constexpr Style kBold{.bold = true};
inline constexpr Style kFaint{.faint = true};
inline constexpr Style kGood{.colour = 34};
inline constexpr Style kBusy{.colour = 178};
inline constexpr Style kBad{.colour = 160};

// Whatever is added, nothing in it is obeyed by a terminal: it is made Printable (common/text.h).
class StyledLine {
 public:
  StyledLine() = default;
  // NOLINTNEXTLINE(google-explicit-constructor): a text is a line
  StyledLine(std::string_view text, Style style = {}) { Add(text, style); }

  StyledLine& Add(std::string_view text, Style style = {});
  // Blanks up to that column; nothing where the line is there already.
  StyledLine& PadTo(int column);
  // What `right` says, at the right edge of `width` columns where both fit; else nothing.
  StyledLine& AddRight(const StyledLine& right, int width);

  // In columns.
  int width() const;
  // The first `width` columns; where something was cut off, the last of them is "…", if it is to be marked.
  StyledLine ClippedTo(int width, bool mark = true) const;

  std::string Plain() const;
  // With ECMA-48's SGR sequences, all ended by the line's end.
  std::string Coloured() const;

 private:
  struct Piece {
    std::string text;
    Style style;
  };
  std::vector<Piece> pieces_;
};

// One text, with a line break after each.
std::string PlainText(const std::vector<StyledLine>& lines);

// "██████░░░░", of `width` columns; full only when `fraction` is 1.
std::string BlockBar(double fraction, int width);

}  // namespace loupe::cli
