#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>

#include "analysis/report/html_sections.h"
#include "analysis/report/number_format.h"
#include "analysis/report/svg_figure.h"
#include "fmt/format.h"

namespace loupe::analysis::report {
namespace {

constexpr double kCurveWidth = 340, kCurveHeight = 240, kCurveTop = 30, kCurveLeft = 58, kCurveBottom = 40;
constexpr size_t kMostCurves = 240;      // thin lines per figure; a choice spread evenly over the trials beyond that
constexpr size_t kMostPoints = 80;       // per line
constexpr size_t kMostKeyedLevels = 10;  // told apart by colour and marker

// The factor whose levels tell the curves apart: the one with the largest one-way F.
const stats::OneWayResult* StrongestFactor(const FactorialAnalysis& analysis) {
  const stats::OneWayResult* strongest = nullptr;
  for (const stats::OneWayResult& row : analysis.one_way) {
    const auto factor = analysis.data.FactorIndex(row.factor);
    const bool of_all = factor.ok() && analysis.data.factors[*factor].nested_in.empty();  // every trial has it
    if (std::isnan(row.f) || !of_all) continue;
    if (strongest == nullptr || row.f > strongest->f) strongest = &row;
  }
  return strongest;
}

struct CurveFigure {
  std::string metric;
  std::vector<const MetricCurve*> curves;
};

std::vector<CurveFigure> ByMetric(const SweepResults& results) {
  std::map<std::string, CurveFigure> by_metric;
  for (const MetricCurve& curve : results.curves) {
    const bool any =
        std::any_of(curve.points.begin(), curve.points.end(), [](const auto& p) { return std::isfinite(p.second); });
    if (curve.points.size() < 2 || !any) continue;
    CurveFigure& figure = by_metric[curve.metric];
    figure.metric = curve.metric;
    figure.curves.push_back(&curve);
  }
  std::vector<CurveFigure> figures;
  for (auto& [metric, figure] : by_metric) figures.push_back(std::move(figure));
  return figures;
}

// Mean over the curves at each step that at least half of them have.
std::vector<std::pair<int64_t, double>> MeanCurve(const std::vector<const MetricCurve*>& curves) {
  std::map<int64_t, std::pair<double, size_t>> at_step;
  for (const MetricCurve* curve : curves) {
    for (const auto& [step, value] : curve->points) {
      if (!std::isfinite(value)) continue;
      at_step[step].first += value;
      ++at_step[step].second;
    }
  }
  std::vector<std::pair<int64_t, double>> mean;
  for (const auto& [step, sum] : at_step) {
    if (sum.second * 2 >= curves.size()) mean.emplace_back(step, sum.first / static_cast<double>(sum.second));
  }
  return mean;
}

// At most kMostPoints, each the mean of a run of neighbours, so that noise does not turn into ink.
std::vector<std::pair<double, double>> Thinned(const std::vector<std::pair<int64_t, double>>& points) {
  std::vector<std::pair<double, double>> out;
  const size_t run = (points.size() + kMostPoints - 1) / kMostPoints;
  for (size_t begin = 0; begin < points.size(); begin += run) {
    double step = 0, value = 0, count = 0;
    for (size_t i = begin; i < std::min(points.size(), begin + run); ++i) {
      if (!std::isfinite(points[i].second)) continue;
      step += static_cast<double>(points[i].first);
      value += points[i].second;
      ++count;
    }
    if (count > 0) out.emplace_back(step / count, value / count);
  }
  return out;
}

std::string DrawFigure(const CurveFigure& what, const std::vector<std::string>& groups,
                       const std::map<int64_t, size_t>& group_of_trial, const std::string& group_name, int number) {
  // Outliers (a loss that exploded) must not flatten the rest: the axis covers the middle 99 % of the points.
  std::vector<double> values;
  double last_step = 0, first_step = std::numeric_limits<double>::infinity();
  std::vector<std::vector<std::pair<double, double>>> lines;
  std::vector<size_t> line_group;
  const size_t stride = (what.curves.size() + kMostCurves - 1) / kMostCurves;
  for (size_t i = 0; i < what.curves.size(); i += stride) {
    lines.push_back(Thinned(what.curves[i]->points));
    const auto group = group_of_trial.find(what.curves[i]->trial_index);
    line_group.push_back(group == group_of_trial.end() ? 0 : group->second);
    for (const auto& [step, value] : lines.back()) {
      values.push_back(value);
      last_step = std::max(last_step, step);
      first_step = std::min(first_step, step);
    }
  }
  if (values.empty() || !(last_step > first_step)) return "";
  std::sort(values.begin(), values.end());
  const size_t cut = values.size() / 200;
  double low = values[cut], high = values[values.size() - 1 - cut];
  AddMargin(low, high, 0.06);

  const bool keyed = groups.size() > 1;
  double legend = 0;
  if (keyed) {
    legend = TextWidth(group_name, 12) + 10;
    for (const std::string& group : groups) legend = std::max(legend, TextWidth(group) + 34);
  }
  const double right = kCurveLeft + kCurveWidth;
  SvgFigure figure(right + legend + 22, kCurveTop + kCurveHeight + kCurveBottom,
                   fmt::format("{} against training step", ScoreTitle(what.metric)), fmt::format("curve{}", number));
  const LinearScale x{first_step, last_step, kCurveLeft, right}, y{low, high, kCurveTop + kCurveHeight, kCurveTop};
  DrawFrame(figure, x, y, ScoreTitle(what.metric), "training step");
  const auto to_pixels = [&](const std::vector<std::pair<double, double>>& points) {
    std::vector<std::pair<double, double>> out;
    for (const auto& [step, value] : points) out.emplace_back(x.At(step), y.At(std::clamp(value, low, high)));
    return out;
  };
  for (size_t i = 0; i < lines.size(); ++i) {
    figure.Path(to_pixels(lines[i]), fmt::format("thin s{}", keyed ? line_group[i] % 7 : 0));
  }
  std::vector<std::vector<const MetricCurve*>> members(std::max<size_t>(1, groups.size()));
  for (const MetricCurve* curve : what.curves) {
    const auto group = group_of_trial.find(curve->trial_index);
    members[group == group_of_trial.end() ? 0 : group->second].push_back(curve);
  }
  for (size_t g = 0; g < members.size(); ++g) {
    if (members[g].empty()) continue;
    const auto mean = to_pixels(Thinned(MeanCurve(members[g])));
    figure.Path(mean, fmt::format("bold s{}{}", g % 7, g >= 7 ? " dash" : ""));
    if (!keyed || mean.empty()) continue;
    for (size_t i = 0; i < mean.size(); i += std::max<size_t>(1, mean.size() / 6)) {
      figure.Marker(mean[i].first, mean[i].second, static_cast<int>(g), fmt::format("f{}", g % 7));
    }
    const double key_y = kCurveTop + 22 + 17 * static_cast<double>(g);
    figure.Marker(right + 26, key_y - 4, static_cast<int>(g), fmt::format("f{}", g % 7));
    figure.Text(right + 37, key_y, "", groups[g]);
  }
  if (keyed) figure.Text(right + 20, kCurveTop + 4, "b", group_name);
  return figure.Html();
}

}  // namespace

HtmlSection CurvesSection(const HtmlContext& context) {
  HtmlSection section{"curves", "Convergence", ""};
  const std::vector<CurveFigure> figures = ByMetric(context.results);
  if (figures.empty()) return section;
  std::vector<std::string> groups = {"all"};
  std::string group_name;
  std::map<int64_t, size_t> group_of_trial;
  if (const stats::OneWayResult* strongest = StrongestFactor(context.analysis()); strongest != nullptr) {
    for (const FactorMeans& factor : context.analysis().means) {
      if (factor.factor != strongest->factor || factor.levels.size() > kMostKeyedLevels) continue;
      group_name = factor.factor;
      groups.clear();
      for (const stats::LevelMean& level : factor.levels) groups.push_back(level.level);
    }
  }
  for (size_t f = 0; f < context.results.factors.size(); ++f) {
    if (context.results.factors[f].name != group_name) continue;
    for (const TrialRecord& trial : context.results.trials) {
      const std::string& level = LevelName(context.results, trial, f);
      const auto found = std::find(groups.begin(), groups.end(), level);
      if (found != groups.end()) group_of_trial[trial.index] = static_cast<size_t>(found - groups.begin());
    }
  }
  section.body = MethodCurvesFigure(context);
  if (!section.body.empty()) section.body += "<h3>Trial by trial</h3>\n";
  section.body += "<figure><div class=\"panels\">\n";
  int number = 0;
  size_t most = 0;
  for (const CurveFigure& figure : figures) {
    section.body += DrawFigure(figure, groups, group_of_trial, group_name, number++);
    most = std::max(most, figure.curves.size());
  }
  section.body += "</div><figcaption>Thin: trials";
  if (most > kMostCurves) section.body += fmt::format(" (at most {} of them, evenly chosen)", kMostCurves);
  section.body += group_name.empty()
                      ? "; thick: their mean."
                      : fmt::format("; thick: the mean per level of {}, the factor with the largest one-way F.",
                                    EscapeHtml(group_name));
  section.body +=
      " Long curves are averaged over neighbouring steps; values beyond the axis (1 % of the points) are drawn at its "
      "edge.</figcaption></figure>\n";
  return section;
}

}  // namespace loupe::analysis::report
