#include "analysis/report/svg_figure.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <initializer_list>
#include <limits>

#include "analysis/report/number_format.h"
#include "common/text.h"
#include "fmt/format.h"

namespace loupe::analysis::report {

std::string EscapeHtml(std::string_view text) {
  std::string out;
  for (const char c : Printable(text, LineBreaks::kKept)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

namespace {

std::string FillAttribute(std::string_view fill) { return fill.empty() ? "" : fmt::format(" style=\"fill:{}\"", fill); }

// What has a coordinate that is no number is not drawn: browsers drop it, or what it stands in, each in its own way.
bool AreNumbers(std::initializer_list<double> coordinates) {
  return std::all_of(coordinates.begin(), coordinates.end(), [](double value) { return std::isfinite(value); });
}

std::string Tooltip(std::string_view text) {
  return text.empty() ? "" : fmt::format("<title>{}</title>", EscapeHtml(text));
}

}  // namespace

SvgFigure::SvgFigure(double width, double height, std::string_view label, std::string_view key)
    : width_(width), height_(height), label_(label), key_(key) {}

void SvgFigure::Line(double x1, double y1, double x2, double y2, std::string_view cls) {
  if (!AreNumbers({x1, y1, x2, y2})) return;
  body_ += fmt::format("<line class=\"{}\" x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\"/>\n", cls, x1, y1,
                       x2, y2);
}

void SvgFigure::Rect(double x, double y, double width, double height, std::string_view cls, std::string_view fill,
                     std::string_view tooltip) {
  if (!AreNumbers({x, y, width, height})) return;
  body_ += fmt::format("<rect class=\"{}\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"{}>{}</rect>\n",
                       cls, x, y, width, height, FillAttribute(fill), Tooltip(tooltip));
}

void SvgFigure::Text(double x, double y, std::string_view cls, std::string_view text, std::string_view fill) {
  if (!AreNumbers({x, y})) return;
  body_ += fmt::format("<text class=\"{}\" x=\"{:.1f}\" y=\"{:.1f}\"{}>{}</text>\n", cls, x, y, FillAttribute(fill),
                       EscapeHtml(text));
}

void SvgFigure::RotatedText(double x, double y, double degrees, std::string_view cls, std::string_view text) {
  if (!AreNumbers({x, y})) return;
  body_ += fmt::format("<text class=\"{}\" transform=\"translate({:.1f} {:.1f}) rotate({:.0f})\">{}</text>\n", cls, x,
                       y, degrees, EscapeHtml(text));
}

void SvgFigure::Path(const std::vector<std::pair<double, double>>& points, std::string_view cls) {
  std::string drawn;
  size_t count = 0;
  for (const auto& [x, y] : points) {
    if (!AreNumbers({x, y})) continue;
    drawn += fmt::format("{}{:.1f},{:.1f}", count++ == 0 ? "" : " ", x, y);
  }
  if (count < 2) return;
  body_ += fmt::format("<polyline class=\"{}\" points=\"{}", cls, drawn);
  body_ += "\"/>\n";
}

void SvgFigure::Marker(double x, double y, int shape, std::string_view cls, std::string_view tooltip) {
  if (!AreNumbers({x, y})) return;
  const std::string tip = Tooltip(tooltip);
  switch (shape % 6) {
    case 0:
      body_ += fmt::format("<circle class=\"{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\">{}</circle>\n", cls, x, y, tip);
      return;
    case 1:
      body_ += fmt::format("<rect class=\"{}\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"7\" height=\"7\">{}</rect>\n", cls,
                           x - 3.5, y - 3.5, tip);
      return;
    default:
      break;
  }
  static constexpr const char* kShapes[] = {"M0 -5L5 0L0 5L-5 0Z", "M0 -5L4.6 3.6L-4.6 3.6Z",
                                            "M0 5L4.6 -3.6L-4.6 -3.6Z", "M-4 -4L4 4M-4 4L4 -4"};
  body_ += fmt::format("<path class=\"{}\" transform=\"translate({:.1f} {:.1f})\" d=\"{}\">{}</path>\n", cls, x, y,
                       kShapes[shape % 6 - 2], tip);
}

void SvgFigure::Dot(double x, double y, std::string_view cls, std::string_view tooltip) {
  if (!AreNumbers({x, y})) return;
  body_ += fmt::format("<circle class=\"{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"2.2\">{}</circle>\n", cls, x, y,
                       Tooltip(tooltip));
}

void SvgFigure::HatchedRect(double x, double y, double width, double height, std::string_view tooltip) {
  hatched_ = true;
  Rect(x, y, width, height, "cell", fmt::format("url(#hatch-{})", key_), tooltip);
}

std::string SvgFigure::Html() const {
  // The width attribute is the natural size; the style sheet lets it shrink with the page.
  std::string out = fmt::format(
      "<svg role=\"img\" aria-label=\"{0}\" width=\"{1:.0f}\" height=\"{2:.0f}\" viewBox=\"0 0 {1:.0f} {2:.0f}\" "
      "xmlns=\"http://www.w3.org/2000/svg\">\n",
      EscapeHtml(label_), width_, height_);
  if (hatched_) {
    out += fmt::format(
        "<defs><pattern id=\"hatch-{}\" width=\"7\" height=\"7\" patternUnits=\"userSpaceOnUse\" "
        "patternTransform=\"rotate(45)\"><line class=\"hatch\" x1=\"0\" y1=\"0\" x2=\"0\" "
        "y2=\"7\"/></pattern></defs>\n",
        key_);
  }
  return out + body_ + "</svg>\n";
}

void AddMargin(double& low, double& high, double share) {
  constexpr double kLargest = std::numeric_limits<double>::max();
  double room = (high - low) * share;
  if (!(room > 0)) room = low == 0 ? 1 : std::abs(low) * 0.05;
  low = std::max(low - std::min(room, kLargest), -kLargest);
  high = std::min(high + std::min(room, kLargest), kLargest);
}

std::string Ticks::Label(double value) const {
  constexpr double kMostWritten = 1e15;  // beyond it digits say nothing
  if (std::abs(value) >= kMostWritten) return FormatNumber(value, 3);
  // Rounded first, so that no "-0.0" appears.
  const double scale = std::pow(10.0, decimals);
  double shown = std::round(value * scale) / scale;
  if (shown == 0) shown = 0;
  std::string text = fmt::format("{:.{}f}", shown, decimals);
  if (text[0] == '-') text.replace(0, 1, "−");
  return text;
}

Ticks RoundTicks(double low, double high, int count) {
  Ticks ticks;
  const double raw = (0.5 * high - 0.5 * low) / std::max(1, count) * 2;
  if (!(raw > 0) || !std::isfinite(raw)) {
    ticks.values = {low};
    ticks.decimals = 3;
    return ticks;
  }
  const double power = std::floor(std::log10(raw));
  double step = std::pow(10.0, power);
  for (const double factor : {1.0, 2.0, 5.0, 10.0}) {
    if (factor * std::pow(10.0, power) >= raw * 0.999) {
      step = factor * std::pow(10.0, power);
      break;
    }
  }
  ticks.decimals = std::clamp(static_cast<int>(-std::floor(std::log10(step) + 1e-9)), 0, 12);
  const double first = std::ceil(low / step - 1e-9);
  for (int i = 0; i < 100 && (first + i) * step <= high + step * 1e-9; ++i) ticks.values.push_back((first + i) * step);
  return ticks;
}

void DrawFrame(SvgFigure& figure, const LinearScale& x, const LinearScale& y, std::string_view title,
               std::string_view x_title) {
  const double left = x.low_pixel, right = x.high_pixel, bottom = y.low_pixel;
  figure.Text(left, 16, "h", title);
  const Ticks y_ticks = RoundTicks(y.low, y.high, 5), x_ticks = RoundTicks(x.low, x.high, 5);
  for (const double value : y_ticks.values) {
    figure.Line(left, y.At(value), right, y.At(value), "grid");
    figure.Text(left - 6, y.At(value) + 4, "e q", y_ticks.Label(value));
  }
  for (const double value : x_ticks.values) {
    figure.Line(x.At(value), bottom, x.At(value), bottom + 4, "axis");
    figure.Text(x.At(value), bottom + 17, "m q", x_ticks.Label(value));
  }
  figure.Line(left, bottom, right, bottom, "axis");
  figure.Text((left + right) / 2, bottom + 34, "m q", x_title);
}

double TextWidth(std::string_view text, double font_size) {
  return static_cast<double>(DisplayWidth(text)) * font_size * 0.6;
}

ScaleColour SequentialColour(double position) {
  // Lightness rises evenly from dark blue to yellow (the idea of cividis: Nuñez et al. 2018, PLoS ONE 13:e0199239).
  static constexpr std::array<std::array<int, 3>, 7> kStops = {
      {{10, 38, 82}, {46, 71, 110}, {87, 99, 116}, {124, 123, 120}, {166, 156, 117}, {210, 190, 101}, {253, 229, 80}}};
  const double p = std::clamp(std::isnan(position) ? 0.5 : position, 0.0, 1.0) * (kStops.size() - 1);
  const size_t i = std::min(static_cast<size_t>(p), kStops.size() - 2);
  const double part = p - static_cast<double>(i);
  std::array<int, 3> rgb{};
  for (size_t c = 0; c < 3; ++c) {
    rgb[c] = static_cast<int>(std::lround(kStops[i][c] + part * (kStops[i + 1][c] - kStops[i][c])));
  }
  const double luminance = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2];
  return {fmt::format("#{:02x}{:02x}{:02x}", rgb[0], rgb[1], rgb[2]), luminance > 125 ? "#111111" : "#ffffff"};
}

}  // namespace loupe::analysis::report
