#include "coordinator/plan/factor_names.h"

#include <algorithm>

#include "common/settings/settings.h"
#include "fmt/format.h"

namespace loupe::coordinator::plan {

absl::StatusOr<std::string> ResolveMethodKey(std::string_view key) {
  const std::string own = fmt::format("{}{}", kMethodSection, key);
  return settings::FindSettingRule(own) != nullptr ? own : settings::ResolveSettingKey(key);
}

std::vector<std::string> FactorNames(const std::vector<SweepFactor>& factors) {
  std::vector<std::string> names;
  for (const SweepFactor& factor : factors) {
    const std::string name(settings::ShortSettingName(factor.key));
    // Of the same short name: other settings, and the same setting in other methods.
    const auto shares = [&](bool same_key) {
      return std::any_of(factors.begin(), factors.end(), [&](const SweepFactor& other) {
        return &other != &factor && settings::ShortSettingName(other.key) == name &&
               (other.key == factor.key) == same_key;
      });
    };
    const std::string own = shares(/*same_key=*/false) ? factor.key : name;
    names.push_back(shares(/*same_key=*/true) ? fmt::format("{}.{}", factor.within, own) : own);
  }
  return names;
}

std::vector<std::string> FactorIds(const std::vector<SweepFactor>& factors) {
  std::vector<std::string> ids = FactorNames(factors);
  for (size_t f = 0; f < factors.size(); ++f) {
    const auto same = [&](const SweepFactor& other) { return other.key == factors[f].key; };
    if (std::count_if(factors.begin(), factors.end(), same) == 1) ids[f] = factors[f].key;
  }
  return ids;
}

std::optional<size_t> FindFactor(const std::vector<SweepFactor>& factors, std::string_view key) {
  for (size_t i = 0; i < factors.size(); ++i) {
    if (factors[i].key == key) return i;
  }
  return std::nullopt;
}

}  // namespace loupe::coordinator::plan
