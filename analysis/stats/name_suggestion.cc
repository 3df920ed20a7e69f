#include "analysis/stats/name_suggestion.h"

#include <algorithm>
#include <numeric>

#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::analysis {
namespace {

constexpr size_t kMostNamesListed = 40;  // names in one sentence

size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({substituted, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string SuggestName(std::string_view name, const std::vector<std::string>& names) {
  if (names.empty()) return "";
  const std::string* best = nullptr;
  size_t best_distance = std::max<size_t>(2, name.size() / 3) + 1;
  for (const std::string& candidate : names) {
    const size_t distance = EditDistance(name, candidate);
    if (distance < best_distance && distance < name.size()) {
      best_distance = distance;
      best = &candidate;
    }
  }
  const std::string hint = best != nullptr ? fmt::format("; did you mean '{}'? In all", *best) : std::string(";");
  const auto shown = names.begin() + static_cast<ptrdiff_t>(std::min(names.size(), kMostNamesListed));
  const std::string more = shown == names.end() ? "" : fmt::format(" and {} more", names.end() - shown);
  return fmt::format("{} there are: {}{}", hint, fmt::join(names.begin(), shown, ", "), more);
}

}  // namespace loupe::analysis
