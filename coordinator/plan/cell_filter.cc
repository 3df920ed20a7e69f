#include "coordinator/plan/cell_filter.h"

#include <algorithm>
#include <map>
#include <string>
#include <unordered_map>

#include "coordinator/plan/canonical_spec.h"
#include "fmt/format.h"

namespace loupe::coordinator {

absl::StatusOr<PatternSet> PatternSet::Create(const std::vector<SweepFactor>& factors,
                                              const std::vector<CellPattern>& patterns) {
  PatternSet set;
  std::vector<std::unordered_map<std::string, uint64_t>> index_of(factors.size());
  std::map<std::string, size_t> factor_of;
  for (size_t f = 0; f < factors.size(); ++f) {
    set.level_counts_.push_back(factors[f].levels.size());
    factor_of[factors[f].key] = f;
    for (size_t i = 0; i < factors[f].levels.size(); ++i) index_of[f][factors[f].levels[i]] = i;
  }
  std::map<std::vector<size_t>, size_t> shape_of;
  for (const CellPattern& pattern : patterns) {
    std::map<size_t, std::string_view> by_factor;
    for (const auto& [key, level] : pattern) by_factor[factor_of.at(key)] = level;
    std::vector<size_t> named;
    uint64_t code = 0;
    bool possible = true;
    for (const auto& [factor, level] : by_factor) {
      const auto found = index_of[factor].find(std::string(level));
      possible = possible && found != index_of[factor].end();
      named.push_back(factor);
      code = code * set.level_counts_[factor] + (possible ? found->second : 0);
    }
    if (!possible) continue;
    const auto [shape, is_new] = shape_of.try_emplace(named, set.shapes_.size());
    if (is_new) {
      if (set.shapes_.size() == kMaxShapes) {
        return absl::InvalidArgumentError(
            fmt::format("the entries name more than {} different sets of factors", kMaxShapes));
      }
      set.shapes_.push_back({.factors = named});
    }
    set.shapes_[shape->second].codes.insert(code);
  }
  return set;
}

bool PatternSet::Matches(const std::vector<uint32_t>& levels) const {
  return std::any_of(shapes_.begin(), shapes_.end(), [&](const Shape& shape) {
    uint64_t code = 0;
    for (const size_t factor : shape.factors) code = code * level_counts_[factor] + levels[factor];
    return shape.codes.contains(code);
  });
}

namespace {

// The levels that a position has in this sweep: the factor's, or the fixed one; empty when it has none.
std::vector<std::string> LevelsOf(const SweepSpec& spec, std::string_view key, std::optional<size_t> factor) {
  if (factor.has_value()) return spec.factors[*factor].levels;
  const auto fixed = spec.settings.find(std::string(key));
  if (fixed == spec.settings.end() || !ParsePosition(fixed->second).has_value()) return {};
  return {fixed->second};
}

}  // namespace

PositionFilter::PositionFilter(const SweepSpec& spec)
    : input_factor_(FindFactor(spec, kInputKey)), output_factor_(FindFactor(spec, kOutputKey)) {
  const std::vector<std::string> inputs = LevelsOf(spec, kInputKey, input_factor_);
  const std::vector<std::string> outputs = LevelsOf(spec, kOutputKey, output_factor_);
  off_ = inputs.empty() || outputs.empty();
  for (const std::string& input : inputs) {
    std::vector<bool>& row = allowed_.emplace_back();
    for (const std::string& output : outputs) {
      const bool listed = spec.positions.empty() || std::find(spec.positions.begin(), spec.positions.end(),
                                                              PositionPairSpec{input, output}) != spec.positions.end();
      row.push_back(listed && IsLegalPair(*ParsePosition(input), *ParsePosition(output)));
    }
  }
}

bool PositionFilter::Allows(const std::vector<uint32_t>& levels) const {
  if (off_) return true;
  const size_t input = input_factor_.has_value() ? levels[*input_factor_] : 0;
  const size_t output = output_factor_.has_value() ? levels[*output_factor_] : 0;
  return allowed_[input][output];
}

}  // namespace loupe::coordinator
