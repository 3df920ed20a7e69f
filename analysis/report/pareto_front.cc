#include "analysis/report/pareto_front.h"

#include <algorithm>
#include <cmath>

namespace loupe::analysis::report {
namespace {

constexpr double kRounding = 1e-9;

bool Better(double a, double b) { return b - a > kRounding * std::max(std::abs(a), std::abs(b)); }

bool Beats(const std::vector<double>& a, const std::vector<double>& b) {
  bool better = false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (Better(b[i], a[i])) return false;
    better = better || Better(a[i], b[i]);
  }
  return better;
}

}  // namespace

std::vector<std::optional<bool>> ParetoFront(const std::vector<std::vector<double>>& rows) {
  const auto judged = [](const std::vector<double>& row) {
    return std::all_of(row.begin(), row.end(), [](double value) { return std::isfinite(value); });
  };
  std::vector<std::optional<bool>> on_front;
  for (const std::vector<double>& row : rows) {
    std::optional<bool>& on = on_front.emplace_back();
    if (!judged(row)) continue;
    on = std::none_of(rows.begin(), rows.end(), [&](const auto& other) { return judged(other) && Beats(other, row); });
  }
  return on_front;
}

}  // namespace loupe::analysis::report
