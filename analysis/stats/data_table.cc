#include "analysis/stats/data_table.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <unordered_map>

#include "analysis/stats/decimal_column.h"
#include "analysis/stats/name_suggestion.h"
#include "fmt/format.h"

namespace loupe::analysis::stats {

absl::StatusOr<size_t> DataTable::FactorIndex(std::string_view name) const {
  std::vector<std::string> names;
  for (size_t i = 0; i < factors.size(); ++i) {
    if (factors[i].name == name) return i;
    names.push_back(factors[i].name);
  }
  return absl::NotFoundError(fmt::format("no factor called '{}'{}", name, SuggestName(name, names)));
}

std::string SampleAccount::Sentence() const {
  std::string text = fmt::format("{} row{}: {} used", rows, rows == 1 ? "" : "s", used);
  auto add = [&](int64_t count, std::string_view what) {
    if (count > 0) text += fmt::format(", {} {}", count, what);
  };
  add(failed, "failed");
  add(cancelled, "cancelled");
  add(stopped_early, "stopped early (left out)");
  add(missing_response, "without a response");
  add(missing_level, "without a factor level");
  if (stopped_early_included > 0) {
    text += fmt::format("; {} of those used were stopped early, included on request", stopped_early_included);
  }
  return text + ".";
}

void SortNumericLevels(Factor& factor) {
  std::vector<double> numbers;
  for (const std::string& level : factor.levels) {
    const std::optional<double> number = DecimalValue(level);
    if (!number) return;
    numbers.push_back(*number);
  }
  std::vector<size_t> order(numbers.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return numbers[a] < numbers[b]; });
  std::vector<std::string> levels;
  std::vector<int32_t> new_code(order.size());
  for (size_t i = 0; i < order.size(); ++i) {
    levels.push_back(factor.levels[order[i]]);
    new_code[order[i]] = static_cast<int32_t>(i);
  }
  factor.levels = std::move(levels);
  for (int32_t& code : factor.codes) {
    if (code != kMissingLevel) code = new_code[static_cast<size_t>(code)];
  }
}

bool AreNearEachOther(double least, double greatest) {
  return least > 0 ? 0.5 * greatest <= least : greatest < 0 && 0.5 * least >= greatest;
}

void SetResponse(DataTable& table, std::vector<double> values) {
  double least = std::numeric_limits<double>::infinity(), greatest = -least;
  double mean = 0, count = 0;
  for (const double value : values) {
    if (std::isnan(value)) continue;
    least = std::min(least, value);
    greatest = std::max(greatest, value);
    count += 1;
    mean += value / count - mean / count;  // a running mean does not overflow
  }
  // The origin is one of the data's own values: differences of two such doubles near each other are exact.
  double origin = 0;
  if (count > 0 && AreNearEachOther(least, greatest)) {
    double nearest = std::numeric_limits<double>::infinity();
    for (const double value : values) {
      if (std::isnan(value) || std::abs(value - mean) >= nearest) continue;
      nearest = std::abs(value - mean);
      origin = value;
    }
    for (double& value : values) value -= origin;
  }
  table.response_origin = origin;
  table.response_deviation = std::move(values);
  table.response_rounding =
      count > 0 ? 0.5 * std::numeric_limits<double>::epsilon() * std::max(std::abs(least), std::abs(greatest)) : 0.0;
}

DataTableBuilder::DataTableBuilder(std::string response_name, std::vector<FactorSpec> factors) {
  table_.response_name = std::move(response_name);
  for (FactorSpec& spec : factors) {
    fixed_levels_.push_back(!spec.levels.empty());
    std::unordered_map<std::string, int32_t>& codes = code_of_.emplace_back();
    for (size_t i = 0; i < spec.levels.size(); ++i) codes.emplace(spec.levels[i], static_cast<int32_t>(i));
    table_.factors.push_back({std::move(spec.name), std::move(spec.levels), {}});
  }
}

absl::Status DataTableBuilder::AddRow(const std::vector<std::string>& levels, double response, RowStatus status) {
  if (levels.size() != table_.factors.size()) {
    return absl::InvalidArgumentError(fmt::format("row {}: {} levels given for {} factors", values_.size() + 1,
                                                  levels.size(), table_.factors.size()));
  }
  if (std::isinf(response)) {
    return absl::InvalidArgumentError(
        fmt::format("row {}: response '{}' is infinite; give a finite number, or NaN for "
                    "a missing value",
                    values_.size() + 1, table_.response_name));
  }
  for (size_t i = 0; i < levels.size(); ++i) {
    if (fixed_levels_[i] && !levels[i].empty() && !code_of_[i].contains(levels[i])) {
      return absl::InvalidArgumentError(fmt::format("row {}: factor '{}' has no level '{}'{}", values_.size() + 1,
                                                    table_.factors[i].name, levels[i],
                                                    SuggestName(levels[i], table_.factors[i].levels)));
    }
  }
  for (size_t i = 0; i < levels.size(); ++i) {
    Factor& factor = table_.factors[i];
    if (levels[i].empty()) {
      factor.codes.push_back(kMissingLevel);
      continue;
    }
    const auto [entry, is_new] = code_of_[i].try_emplace(levels[i], static_cast<int32_t>(factor.levels.size()));
    if (is_new) factor.levels.push_back(levels[i]);
    factor.codes.push_back(entry->second);
  }
  values_.push_back(response);
  table_.status.push_back(status);
  return absl::OkStatus();
}

DataTable DataTableBuilder::Build() && {
  for (size_t i = 0; i < table_.factors.size(); ++i) {
    if (!fixed_levels_[i]) SortNumericLevels(table_.factors[i]);
  }
  SetResponse(table_, std::move(values_));
  return std::move(table_);
}

}  // namespace loupe::analysis::stats
