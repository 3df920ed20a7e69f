#include "coordinator/plan/cell_filter.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <unordered_map>

#include "common/settings/methods.h"
#include "coordinator/plan/factor_names.h"
#include "fmt/format.h"

namespace loupe::coordinator::plan {

absl::StatusOr<PatternSet> PatternSet::Create(const std::vector<SweepFactor>& factors,
                                              const std::vector<CellPattern>& patterns) {
  PatternSet set;
  std::vector<std::unordered_map<std::string, uint64_t>> index_of(factors.size());
  const std::vector<std::string> ids = FactorIds(factors);
  std::map<std::string, size_t> factor_of;
  for (size_t f = 0; f < factors.size(); ++f) {
    set.level_counts_.push_back(factors[f].levels.size());
    factor_of[ids[f]] = f;
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
    for (const size_t factor : shape.factors) {
      if (levels[factor] == kNoLevel) return false;
      code = code * level_counts_[factor] + levels[factor];
    }
    return shape.codes.contains(code);
  });
}

std::string_view ValueIn(const SweepSpec& spec, const std::vector<SweepFactor>& factors,
                         const std::vector<uint32_t>& levels, const std::string& key) {
  for (size_t f = 0; f < factors.size(); ++f) {
    if (levels[f] == kNoLevel) continue;
    if (factors[f].settings.empty()) {
      if (factors[f].key == key) return factors[f].levels[levels[f]];
      continue;
    }
    const auto& set = factors[f].settings[levels[f]];
    if (const auto found = set.find(key); found != set.end()) return found->second;
  }
  if (const auto fixed = spec.settings.find(key); fixed != spec.settings.end()) return fixed->second;
  return spec.defaults.Of(*settings::FindSettingRule(key));
}

namespace {

// Every setting on which it can depend whether a combination is legal.
std::set<std::string> KeysOfLegality() {
  std::set<std::string> keys = {std::string(kKindKey)};
  for (const std::string& kind : settings::FindSettingRule(kKindKey)->choices) {
    if (const settings::LegalityRule* rule = settings::FindLegalityRule(kind))
      keys.insert(rule->keys.begin(), rule->keys.end());
  }
  return keys;
}

bool SetsOneOf(const SweepFactor& factor, const std::set<std::string>& keys) {
  if (factor.settings.empty()) return keys.contains(factor.key);
  return std::any_of(factor.settings.begin(), factor.settings.end(), [&](const auto& level) {
    return std::any_of(level.begin(), level.end(), [&](const auto& set) { return keys.contains(set.first); });
  });
}

}  // namespace

LegalityFilter::LegalityFilter(const SweepSpec& spec, const std::vector<SweepFactor>& factors,
                               const std::vector<size_t>& own, const std::vector<PositionPairSpec>& positions)
    : spec_(spec), all_(factors), positions_(positions) {
  const std::set<std::string> keys = KeysOfLegality();
  size_t combinations = 1;
  for (const size_t f : own) {
    if (!SetsOneOf(factors[f], keys)) continue;
    factors_.push_back(f);
    combinations *= factors[f].levels.size();
  }
  answers_.assign(combinations, Answer::kUnknown);
}

bool LegalityFilter::Allows(const std::vector<uint32_t>& levels) {
  size_t code = 0;
  for (const size_t f : factors_) code = code * all_[f].levels.size() + levels[f];
  Answer& answer = answers_[code];
  if (answer == Answer::kUnknown) {
    const std::string why = WhyNot(levels);
    answer = why.empty() ? Answer::kAllowed : Answer::kRefused;
    if (reason_.empty()) reason_ = why;
  }
  return answer == Answer::kAllowed;
}

std::string LegalityFilter::WhyNot(const std::vector<uint32_t>& levels) {
  const settings::LegalityRule* rule = settings::FindLegalityRule(ValueIn(spec_, all_, levels, std::string(kKindKey)));
  if (rule == nullptr) return "";
  noun_ = rule->noun;
  std::vector<std::string_view> values;
  for (const std::string& key : rule->keys) values.push_back(ValueIn(spec_, all_, levels, key));
  // What is missing is said where settings are checked.
  if (std::any_of(values.begin(), values.end(), [](std::string_view value) { return value.empty(); })) return "";
  std::string why = rule->why_illegal(values);
  if (!why.empty() || positions_.empty()) return why;
  const PositionPairSpec pair{std::string(ValueIn(spec_, all_, levels, std::string(kInputKey))),
                              std::string(ValueIn(spec_, all_, levels, std::string(kOutputKey)))};
  if (std::find(positions_.begin(), positions_.end(), pair) != positions_.end()) return "";
  return fmt::format("{} -> {} is not among the positions that are listed", pair.input, pair.output);
}

}  // namespace loupe::coordinator::plan
