#include "analysis/stats/name_suggestion.h"

#include <algorithm>

#include "common/settings/settings.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::analysis::stats {
namespace {

constexpr size_t kMostNamesListed = 40;  // names in one sentence

}  // namespace

std::string SuggestName(std::string_view name, const std::vector<std::string>& names) {
  if (names.empty()) return "";
  const std::string best = settings::NearestName(name, names);
  const std::string hint = !best.empty() ? fmt::format("; did you mean '{}'? In all", best) : std::string(";");
  const auto shown = names.begin() + static_cast<ptrdiff_t>(std::min(names.size(), kMostNamesListed));
  const std::string more = shown == names.end() ? "" : fmt::format(" and {} more", names.end() - shown);
  return fmt::format("{} there are: {}{}", hint, fmt::join(names.begin(), shown, ", "), more);
}

}  // namespace loupe::analysis::stats
