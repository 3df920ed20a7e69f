#include "coordinator/plan/pattern_check.h"

#include <algorithm>

#include "common/settings/settings.h"
#include "coordinator/plan/factor_names.h"
#include "coordinator/plan/plan.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::coordinator::plan {
namespace {

constexpr size_t kMaxPatternNotes = 100;

}  // namespace

PatternCheck::PatternCheck(const SweepSpec& given, CanonicalSpec& result)
    : given_(given), result_(result), names_(FactorNames(result.factors)), ids_(FactorIds(result.factors)) {
  for (const SweepFactor& factor : result_.factors)
    level_sets_.emplace_back(factor.levels.begin(), factor.levels.end());
}

void PatternCheck::Refuse(std::string field, std::string description) {
  if (result_.violations.size() < kMaxSpecViolations) {
    result_.violations.push_back({std::move(field), std::move(description)});
  }
}

std::vector<CellPattern> PatternCheck::Check(const std::string& list, const std::vector<CellPattern>& given,
                                             std::string_view effect) {
  std::vector<CellPattern> patterns;
  if (given.size() > kMaxPatterns) {
    Refuse(list, fmt::format("{} entries are more than the {} allowed", given.size(), kMaxPatterns));
    return patterns;
  }
  for (size_t i = 0; i < given.size(); ++i) {
    const std::string field = fmt::format("{}[{}]", list, i);
    CellPattern pattern;
    if (given[i].empty()) Refuse(field, "names no factor: it would match every cell");
    for (const auto& [key, value] : given[i]) CheckLevel(field, key, value, effect, pattern);
    if (pattern.size() == given[i].size() && !pattern.empty()) patterns.push_back(std::move(pattern));
  }
  return patterns;
}

// The factor that a pattern calls `key`; what is wrong with it is said in `problem`, unless it has been reported.
std::optional<size_t> PatternCheck::FactorOf(const std::string& key, std::string& problem) const {
  const std::vector<SweepFactor>& factors = result_.factors;
  for (size_t f = 0; f < factors.size(); ++f) {
    if (names_[f] == key || ids_[f] == key) return f;
  }
  // A setting's name may be shared by factors and other settings ("steps"): the factors have it first.
  std::vector<size_t> found;
  const absl::StatusOr<std::string> full =
      result_.spec.methods.empty() ? settings::ResolveSettingKey(key) : ResolveMethodKey(key);
  for (size_t f = 0; f < factors.size() && full.ok(); ++f) {
    if (factors[f].key == *full) found.push_back(f);
  }
  if (found.size() == 1) return found.front();
  if (found.empty() && WasGiven(key)) return std::nullopt;
  if (found.size() > 1) {
    std::vector<std::string> which;
    for (const size_t f : found) which.push_back(names_[f]);
    problem = fmt::format("several methods have a factor {}: write {}", key, fmt::join(which, " or "));
  } else if (!full.ok() && absl::IsInvalidArgument(full.status())) {
    problem = std::string(full.status().message());
  } else {
    // Of a free name nothing else is known than that it is none of the factors.
    const std::string nearest = full.ok() ? "" : settings::NearestName(key, names_);
    problem =
        !full.ok() && nearest.empty() && !IsFreeNameGiven()
            ? std::string(full.status().message())
            : fmt::format("{} is not a factor of this sweep; {}its factors are: {}", full.ok() ? *full : key,
                          nearest.empty() ? "" : fmt::format("did you mean '{}'? ", nearest), fmt::join(ids_, ", "));
  }
  return std::nullopt;
}

bool PatternCheck::IsFreeNameGiven() const {
  return std::any_of(result_.factors.begin(), result_.factors.end(),
                     [](const SweepFactor& factor) { return !factor.settings.empty(); });
}

// Whether a factor of this name was given and refused, which has been reported.
bool PatternCheck::WasGiven(const std::string& key) const {
  const auto is_it = [&](const SweepFactor& factor) {
    return factor.key == key ||
           settings::ResolveSettingKey(factor.key).value_or("?") == settings::ResolveSettingKey(key).value_or("");
  };
  return std::any_of(given_.factors.begin(), given_.factors.end(), is_it) ||
         std::any_of(given_.methods.begin(), given_.methods.end(), [&](const MethodSpec& method) {
           return std::any_of(method.factors.begin(), method.factors.end(), is_it);
         });
}

void PatternCheck::CheckLevel(const std::string& pattern_field, const std::string& key, const std::string& value,
                              std::string_view effect, CellPattern& pattern) {
  const std::string field = fmt::format("{}.levels[\"{}\"]", pattern_field, key);
  std::string problem;
  const std::optional<size_t> factor = FactorOf(key, problem);
  if (!factor.has_value()) {
    if (!problem.empty()) Refuse(field, problem);
    return;
  }
  const SweepFactor& found = result_.factors[*factor];
  absl::StatusOr<std::string> level = value;
  if (found.settings.empty()) level = settings::CanonicalValue(*settings::FindSettingRule(found.key), value);
  if (!level.ok()) return Refuse(field, std::string(level.status().message()));
  if (!level_sets_[*factor].contains(*level) && result_.notes.size() < kMaxPatternNotes) {
    result_.notes.push_back(fmt::format("{} {}: {} has no level '{}' (its levels are {})", pattern_field, effect,
                                        ids_[*factor], *level, fmt::join(found.levels, ", ")));
  }
  if (!pattern.emplace(ids_[*factor], *level).second) Refuse(field, fmt::format("{} is given twice", ids_[*factor]));
}

}  // namespace loupe::coordinator::plan
