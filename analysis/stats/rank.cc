#include "analysis/stats/rank.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "analysis/stats/distributions.h"
#include "analysis/stats/nan.h"
#include "fmt/format.h"

namespace loupe::analysis::stats {

RankedValues Rank(const std::vector<double>& values) {
  std::vector<std::pair<double, size_t>> order(values.size());  // side by side: sorting looks at no other place
  for (size_t i = 0; i < values.size(); ++i) order[i] = {values[i], i};
  std::sort(order.begin(), order.end());
  RankedValues result{.rank = std::vector<double>(values.size()), .tie_sum = 0};
  for (size_t begin = 0; begin < order.size();) {
    size_t end = begin;
    while (end < order.size() && order[end].first == order[begin].first) ++end;
    const auto ties = static_cast<double>(end - begin);
    result.tie_sum += ties * ties * ties - ties;
    for (size_t i = begin; i < end; ++i) result.rank[order[i].second] = 0.5 * static_cast<double>(begin + end + 1);
    begin = end;
  }
  return result;
}

absl::StatusOr<RankAgreement> SpearmanAgreement(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) {
    return absl::InvalidArgumentError(
        fmt::format("two rankings of {} and {} cells cannot be compared; give the same cells "
                    "in the same order",
                    a.size(), b.size()));
  }
  std::vector<double> x, y;
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) || std::isnan(b[i])) continue;
    x.push_back(a[i]);
    y.push_back(b[i]);
  }
  if (x.size() < 2) return absl::InvalidArgumentError("comparing two rankings needs at least two cells that both have");
  const std::vector<double> rx = Rank(x).rank;
  const std::vector<double> ry = Rank(y).rank;
  const auto n = static_cast<double>(x.size());
  double sxx = 0, syy = 0, sxy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double dx = rx[i] - 0.5 * (n + 1);
    const double dy = ry[i] - 0.5 * (n + 1);
    sxx += dx * dx;
    syy += dy * dy;
    sxy += dx * dy;
  }
  if (sxx == 0 || syy == 0)
    return absl::InvalidArgumentError("all cells tie in one of the rankings, so it ranks nothing");
  RankAgreement result{.rho = std::clamp(sxy / std::sqrt(sxx * syy), -1.0, 1.0), .p = 0, .n = x.size()};
  if (n < 3) {
    result.p = kNaN;
  } else if (std::abs(result.rho) < 1) {
    result.p = TTwoSided(result.rho * std::sqrt((n - 2) / (1 - result.rho * result.rho)), n - 2);
  }
  return result;
}

RankInterval SpearmanInterval(const RankAgreement& agreement, double confidence) {
  if (agreement.n < 4 || std::abs(agreement.rho) >= 1) return {kNaN, kNaN};
  const double variance = (1 + 0.5 * agreement.rho * agreement.rho) / (static_cast<double>(agreement.n) - 3);
  const double half = NormalQuantile(0.5 * (1 + confidence)) * std::sqrt(variance);
  const double z = std::atanh(agreement.rho);
  return {std::tanh(z - half), std::tanh(z + half)};
}

}  // namespace loupe::analysis::stats
