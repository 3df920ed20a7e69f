// Inline SVG by hand: a few shapes whose colours come from the page's style sheet, so that one figure serves screen,
// dark mode and print.
#pragma once

#include <cmath>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace loupe::analysis::report {

// & < > " ' replaced by entities; control characters other than line breaks and tabs dropped (HTML forbids them).
std::string EscapeHtml(std::string_view text);

// Coordinates are in pixels, y downward; `cls` are class names of html_style.h. Text is escaped here.
class SvgFigure {
 public:
  // `label` is read aloud instead of the figure. `key` is unique within the page (names the figure's patterns).
  SvgFigure(double width, double height, std::string_view label, std::string_view key);

  void Line(double x1, double y1, double x2, double y2, std::string_view cls);
  // `fill` is a colour, or empty where the class says it; `tooltip` shows on hovering.
  void Rect(double x, double y, double width, double height, std::string_view cls, std::string_view fill = "",
            std::string_view tooltip = "");
  void Text(double x, double y, std::string_view cls, std::string_view text, std::string_view fill = "");
  void RotatedText(double x, double y, double degrees, std::string_view cls, std::string_view text);
  void Path(const std::vector<std::pair<double, double>>& points, std::string_view cls);
  // Shape 0 … 5: circle, square, diamond, triangle, inverted triangle, cross: told apart without colour.
  void Marker(double x, double y, int shape, std::string_view cls, std::string_view tooltip = "");
  void Dot(double x, double y, std::string_view cls, std::string_view tooltip = "");  // small, without an outline
  void HatchedRect(double x, double y, double width, double height, std::string_view tooltip);

  double width() const { return width_; }
  std::string Html() const;

 private:
  double width_, height_;
  std::string label_, key_, body_;
  bool hatched_ = false;
};

// From data to pixels along one axis.
struct LinearScale {
  double low = 0, high = 1;  // data
  double low_pixel = 0, high_pixel = 1;
  // The middle where there is no length to measure by.
  double At(double value) const {
    const double share = (0.5 * value - 0.5 * low) / (0.5 * high - 0.5 * low);  // halves: no difference overflows
    return low_pixel + (std::isfinite(share) ? share : 0.5) * (high_pixel - low_pixel);
  }
};

// Widens [low, high] by `share` of its length on both sides; a single point gets a little room around it.
void AddMargin(double& low, double& high, double share);

// Round numbers within [low, high], about `count` of them, and how to write them.
struct Ticks {
  std::vector<double> values;
  int decimals = 0;
  std::string Label(double value) const;
};
Ticks RoundTicks(double low, double high, int count);

// Around lines: the title above, y's grid and numbers, x's ticks, numbers and title below. y.low_pixel is the bottom.
void DrawFrame(SvgFigure& figure, const LinearScale& x, const LinearScale& y, std::string_view title,
               std::string_view x_title);

// Pixels that `text` takes at this font size, estimated a little wide.
double TextWidth(std::string_view text, double font_size = 11);

// A colour of the sequential scale (dark blue to yellow, readable with every colour vision) at `position` in [0, 1],
// and the text colour to put on it.
struct ScaleColour {
  std::string fill;
  std::string_view text;
};
ScaleColour SequentialColour(double position);

}  // namespace loupe::analysis::report
