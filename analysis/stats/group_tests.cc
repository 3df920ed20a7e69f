#include "analysis/stats/group_tests.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "analysis/stats/cell_table.h"
#include "analysis/stats/distributions.h"
#include "analysis/stats/one_way.h"
#include "analysis/stats/rank.h"
#include "analysis/stats/wide_number.h"
#include "common/median.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis::stats {
namespace {

double Mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

absl::Status CheckGroups(const Groups& groups) {
  if (groups.size() < 2) return absl::InvalidArgumentError("comparing groups needs at least two of them");
  for (size_t g = 0; g < groups.size(); ++g) {
    if (groups[g].empty()) return absl::InvalidArgumentError(fmt::format("group {} is empty; leave it out", g + 1));
    for (const double value : groups[g]) {
      if (!std::isfinite(value)) {
        return absl::InvalidArgumentError(fmt::format("group {} has a value that is not finite; leave it out", g + 1));
      }
    }
  }
  return absl::OkStatus();
}

// The same values over a power of two near the largest: no statistic here depends on the unit, and no square overflows
// or vanishes.
Groups Scaled(const Groups& groups) {
  double largest = 0;
  for (const std::vector<double>& group : groups) {
    for (const double value : group) largest = std::max(largest, std::abs(value));
  }
  const PowerOfTwo unit(largest);
  Groups scaled = groups;
  for (std::vector<double>& group : scaled) {
    for (double& value : group) value = unit.Down(value);
  }
  return scaled;
}

// `values`: one per row.
absl::StatusOr<Groups> Grouped(const DataTable& data, std::string_view factor, bool include_stopped_early,
                               const std::vector<double>& values) {
  LOUPE_ASSIGN_OR_RETURN(const size_t index, data.FactorIndex(factor));
  Groups groups(data.factors[index].levels.size());
  const std::vector<size_t> factors = {index};
  SampleAccount account;
  for (size_t row = 0; row < data.rows(); ++row) {
    if (!RowIsUsed(data, row, factors, include_stopped_early, account)) continue;
    groups[static_cast<size_t>(data.factors[index].codes[row])].push_back(values[row]);
  }
  std::erase_if(groups, [](const std::vector<double>& group) { return group.empty(); });
  return groups;
}

// Ranks are halves of whole numbers: their sums are exact in whatever order.
absl::StatusOr<GroupTest> TestOfRanks(const Groups& ranks, double tie_sum) {
  double n = 0;
  for (const std::vector<double>& group : ranks) n += static_cast<double>(group.size());
  if (tie_sum >= n * n * n - n) {
    return absl::InvalidArgumentError("all values are equal; a test on ranks has nothing to work on");
  }
  double h = 0;
  for (const std::vector<double>& group : ranks) {
    double sum = 0;
    for (const double rank : group) sum += rank - 0.5 * (n + 1);
    h += sum * sum / static_cast<double>(group.size());
  }
  h *= 12 / (n * (n + 1)) / (1 - tie_sum / (n * n * n - n));
  const double df = static_cast<double>(ranks.size()) - 1;
  return GroupTest{h, df, std::numeric_limits<double>::quiet_NaN(), ChiSquaredUpperTail(h, df)};
}

template <typename Centre>
absl::StatusOr<GroupTest> SpreadTest(const Groups& unscaled, Centre centre) {
  LOUPE_RETURN_IF_ERROR(CheckGroups(unscaled));
  const Groups groups = Scaled(unscaled);
  Groups distances;
  for (const std::vector<double>& group : groups) {
    const double about = centre(group);
    std::vector<double>& distance = distances.emplace_back();
    for (const double value : group) distance.push_back(std::abs(value - about));
  }
  LOUPE_ASSIGN_OR_RETURN(const OneWayResult result, OneWayAnova(distances));
  return GroupTest{result.f, result.between_df, result.within_df, result.p};
}

}  // namespace

absl::StatusOr<Groups> GroupValues(const DataTable& data, std::string_view factor, bool include_stopped_early) {
  return Grouped(data, factor, include_stopped_early, data.response_deviation);
}

absl::StatusOr<GroupTest> WelchAnova(const Groups& unscaled) {
  LOUPE_RETURN_IF_ERROR(CheckGroups(unscaled));
  const Groups groups = Scaled(unscaled);
  const auto k = static_cast<double>(groups.size());
  std::vector<double> weight, mean;
  double total_weight = 0, weighted_mean = 0;
  for (size_t g = 0; g < groups.size(); ++g) {
    const auto n = static_cast<double>(groups[g].size());
    mean.push_back(Mean(groups[g]));
    double squares = 0;
    for (const double value : groups[g]) squares += (value - mean.back()) * (value - mean.back());
    const auto [least, greatest] = std::minmax_element(groups[g].begin(), groups[g].end());
    if (*least == *greatest || !(squares > 0)) {
      return absl::InvalidArgumentError(fmt::format(
          "Welch's test needs at least two different values in every group; group {} has {}", g + 1, groups[g].size()));
    }
    weight.push_back(n * (n - 1) / squares);
    total_weight += weight.back();
    weighted_mean += weight.back() * mean.back();
  }
  weighted_mean /= total_weight;
  double between = 0, lambda = 0;
  for (size_t g = 0; g < groups.size(); ++g) {
    between += weight[g] * (mean[g] - weighted_mean) * (mean[g] - weighted_mean);
    const double share = 1 - weight[g] / total_weight;
    lambda += share * share / static_cast<double>(groups[g].size() - 1);
  }
  lambda *= 3 / (k * k - 1);
  const double f = between / (k - 1) / (1 + 2 * (k - 2) * lambda / 3);
  return GroupTest{f, k - 1, 1 / lambda, FUpperTail(f, k - 1, 1 / lambda)};
}

absl::StatusOr<GroupTest> KruskalWallis(const Groups& groups) {
  LOUPE_RETURN_IF_ERROR(CheckGroups(groups));
  std::vector<double> all;
  for (const std::vector<double>& group : groups) all.insert(all.end(), group.begin(), group.end());
  const RankedValues ranked = Rank(all);
  Groups ranks;
  size_t at = 0;
  for (const std::vector<double>& group : groups) {
    const auto begin = ranked.rank.begin() + static_cast<std::ptrdiff_t>(at);
    at += group.size();
    ranks.emplace_back(begin, ranked.rank.begin() + static_cast<std::ptrdiff_t>(at));
  }
  return TestOfRanks(ranks, ranked.tie_sum);
}

RankTests::RankTests(const DataTable& data, bool include_stopped_early)
    : data_(data), include_stopped_early_(include_stopped_early), rank_of_row_(data.rows()) {
  std::vector<double> values;
  std::vector<size_t> row_of_value;
  SampleAccount account;
  for (size_t row = 0; row < data.rows(); ++row) {
    if (!RowIsUsed(data, row, {}, include_stopped_early, account)) continue;
    values.push_back(data.response_deviation[row]);
    row_of_value.push_back(row);
  }
  const RankedValues ranked = Rank(values);
  for (size_t i = 0; i < values.size(); ++i) rank_of_row_[row_of_value[i]] = ranked.rank[i];
  tie_sum_ = ranked.tie_sum;
  used_ = account.used;
}

absl::StatusOr<GroupTest> RankTests::KruskalWallis(std::string_view factor, const Groups& groups) const {
  int64_t used = 0;
  for (const std::vector<double>& group : groups) used += static_cast<int64_t>(group.size());
  if (used != used_) return stats::KruskalWallis(groups);
  LOUPE_RETURN_IF_ERROR(CheckGroups(groups));
  LOUPE_ASSIGN_OR_RETURN(const Groups ranks, Grouped(data_, factor, include_stopped_early_, rank_of_row_));
  return TestOfRanks(ranks, tie_sum_);
}

absl::StatusOr<GroupTest> Levene(const Groups& groups) { return SpreadTest(groups, Mean); }
absl::StatusOr<GroupTest> BrownForsythe(const Groups& groups) { return SpreadTest(groups, Median); }

}  // namespace loupe::analysis::stats
