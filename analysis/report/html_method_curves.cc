// Of a sweep over methods: the score against the training step, one line per method (DiffFit, arXiv 2304.06648, fig.
// 6).
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "analysis/report/html_sections.h"
#include "analysis/report/number_format.h"
#include "analysis/report/svg_figure.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::analysis::report {
namespace {

constexpr double kLinesWidth = 520, kLinesHeight = 300, kLinesTop = 30, kLinesLeft = 58, kLinesBottom = 40;
constexpr double kKeyHeight = 17;
constexpr size_t kMostMethodLines = 42;                     // told apart by 7 colours and 6 markers
constexpr size_t kMostPointsDrawn = 80, kMostMarkers = 12;  // per line
constexpr size_t kMostStepsListed = 40;

struct StepMean {
  double mean = 0;
  int64_t trials = 0;
};

struct MethodLine {
  size_t place = 0;  // of its method among the levels: colour and marker
  std::string method;
  std::map<int64_t, StepMean> at_step;

  std::string Trials() const {
    int64_t fewest = std::numeric_limits<int64_t>::max(), most = 0;
    for (const auto& [step, mean] : at_step) {
      fewest = std::min(fewest, mean.trials);
      most = std::max(most, mean.trials);
    }
    if (fewest < most) return fmt::format("{} … {} trials", fewest, most);
    return fmt::format("{} {}", most, most == 1 ? "trial" : "trials");
  }
};

// At most `count` of them, evenly chosen, the first and the last among them.
std::vector<int64_t> EvenlyChosen(const std::vector<int64_t>& steps, size_t count) {
  if (steps.size() <= count) return steps;
  std::vector<int64_t> chosen;
  for (size_t i = 0; i < count; ++i) chosen.push_back(steps[i * (steps.size() - 1) / (count - 1)]);
  return chosen;
}

std::vector<int64_t> StepsOf(const MethodLine& line) {
  std::vector<int64_t> steps;
  for (const auto& [step, mean] : line.at_step) steps.push_back(step);
  return steps;
}

// Of the trials that the analysis uses too. A curve of one point is the score after training: no curve was asked for.
std::vector<MethodLine> LinesOf(const HtmlContext& context, size_t factor) {
  const std::vector<std::string>& methods = context.results.factors[factor].levels;
  std::vector<MethodLine> lines(methods.size());
  for (size_t i = 0; i < methods.size(); ++i) lines[i] = {i, methods[i], {}};
  std::map<int64_t, size_t> method_of_trial;
  for (const TrialRecord& trial : context.results.trials) {
    const int32_t method = trial.levels[factor];
    const bool used =
        trial.state == TrialState::kSucceeded && (!trial.stopped_early || context.options.include_stopped_early);
    if (used && method != kNoSuchFactor) method_of_trial[trial.index] = static_cast<size_t>(method);
  }
  for (const MetricCurve& curve : context.results.curves) {
    const auto method = method_of_trial.find(curve.trial_index);
    if (curve.metric != context.sweep.response || curve.points.size() < 2 || method == method_of_trial.end()) continue;
    for (const auto& [step, value] : curve.points) {
      if (!std::isfinite(value)) continue;
      StepMean& at = lines[method->second].at_step[step];
      ++at.trials;
      const double n = static_cast<double>(at.trials);
      at.mean += value / n - at.mean / n;  // no difference overflows
    }
  }
  return lines;
}

std::string DrawLines(const std::vector<MethodLine>& lines, const std::string& title) {
  double low = std::numeric_limits<double>::infinity(), high = -low, first = low, last = -low, key_width = 0;
  for (const MethodLine& line : lines) {
    key_width = std::max(key_width, TextWidth(fmt::format("{} ({})", line.method, line.Trials())) + 34);
    for (const auto& [step, at] : line.at_step) {
      low = std::min(low, at.mean);
      high = std::max(high, at.mean);
      first = std::min(first, static_cast<double>(step));
      last = std::max(last, static_cast<double>(step));
    }
  }
  if (!(last > first)) return "";
  AddMargin(low, high, 0.06);
  const double right = kLinesLeft + kLinesWidth;
  const double height = std::max(kLinesHeight, 22 + kKeyHeight * static_cast<double>(lines.size()));
  SvgFigure figure(right + key_width + 22, kLinesTop + height + kLinesBottom,
                   fmt::format("{} against training step, by method", title), "method-lines");
  const LinearScale x{first, last, kLinesLeft, right}, y{low, high, kLinesTop + height, kLinesTop};
  DrawFrame(figure, x, y, title, "training step");
  figure.Text(right + 20, kLinesTop + 4, "b", kMethodFactor);
  double key_y = kLinesTop + 22;
  for (const MethodLine& line : lines) {
    const std::string colour = fmt::format("f{}", line.place % 7);
    const int shape = static_cast<int>(line.place % 6);
    const std::vector<int64_t> steps = EvenlyChosen(StepsOf(line), kMostPointsDrawn);
    std::vector<std::pair<double, double>> points;
    points.reserve(steps.size());
    for (const int64_t step : steps)
      points.emplace_back(x.At(static_cast<double>(step)), y.At(line.at_step.at(step).mean));
    figure.Path(points, fmt::format("bold s{}{}", line.place % 7, line.place >= 7 ? " dash" : ""));
    for (const int64_t step : EvenlyChosen(steps, kMostMarkers)) {
      const StepMean& at = line.at_step.at(step);
      figure.Marker(x.At(static_cast<double>(step)), y.At(at.mean), shape, colour,
                    fmt::format("{}, step {}: {} ({} {})", line.method, step, FormatNumber(at.mean), at.trials,
                                at.trials == 1 ? "trial" : "trials"));
    }
    figure.Marker(right + 26, key_y - 4, shape, colour);
    figure.Text(right + 37, key_y, "", fmt::format("{} ({})", line.method, line.Trials()));
    key_y += kKeyHeight;
  }
  return figure.Html();
}

std::string ListLines(const std::vector<MethodLine>& lines) {
  std::set<int64_t> all;
  for (const MethodLine& line : lines) {
    for (const auto& [step, mean] : line.at_step) all.insert(step);
  }
  const std::vector<int64_t> steps = EvenlyChosen({all.begin(), all.end()}, kMostStepsListed);
  std::string out = fmt::format(
      "<details><summary>The means{}, with the number of trials</summary>\n<div class=\"wide\"><table "
      "id=\"method-curves\">\n<thead><tr><th scope=\"col\">step</th>",
      steps.size() < all.size() ? fmt::format(" at {} of the {} steps", steps.size(), all.size()) : "");
  for (const MethodLine& line : lines) out += fmt::format("<th scope=\"col\">{}</th>", EscapeHtml(line.method));
  out += "</tr></thead>\n<tbody>\n";
  for (const int64_t step : steps) {
    out += fmt::format("<tr><th scope=\"row\">{}</th>", step);
    for (const MethodLine& line : lines) {
      const auto at = line.at_step.find(step);
      out += at == line.at_step.end()
                 ? "<td>–</td>"
                 : fmt::format("<td>{} ({})</td>", FormatNumber(at->second.mean), at->second.trials);
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table></div></details>\n";
}

}  // namespace

std::string MethodCurvesFigure(const HtmlContext& context) {
  const std::vector<SweepFactor>& factors = context.results.factors;
  const auto method = std::find_if(factors.begin(), factors.end(), [](const SweepFactor& factor) {
    return factor.name == kMethodFactor && factor.key == kMethodFactor;
  });
  if (method == factors.end()) return "";
  std::vector<MethodLine> lines = LinesOf(context, static_cast<size_t>(method - factors.begin()));
  std::vector<std::string> without;
  for (const MethodLine& line : lines) {
    if (line.at_step.empty()) without.push_back(line.method);
  }
  std::erase_if(lines, [](const MethodLine& line) { return line.at_step.empty(); });
  const size_t all = lines.size();
  if (all > kMostMethodLines) lines.resize(kMostMethodLines);
  const std::string drawn = lines.empty() ? "" : DrawLines(lines, context.Title());
  if (drawn.empty()) return "";
  std::string caption = fmt::format(
      "{} of each method as it trains: the mean over the trials that have a score at that step, and in brackets how "
      "many these are. Where their number changes along a line, the mean is of other trials.",
      context.Title());
  if (all > kMostMethodLines) caption += fmt::format(" The first {} of {} methods.", kMostMethodLines, all);
  if (!without.empty()) caption += fmt::format(" No curve of {}.", fmt::join(without, ", "));
  return fmt::format("<h3>{} by method</h3>\n<figure>{}<figcaption>{}</figcaption></figure>\n{}",
                     EscapeHtml(context.Title()), drawn, EscapeHtml(caption), ListLines(lines));
}

}  // namespace loupe::analysis::report
