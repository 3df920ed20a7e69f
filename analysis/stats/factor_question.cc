#include "analysis/stats/factor_question.h"

#include <algorithm>

#include "analysis/stats/quoted_name.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis::stats {
namespace {

// Separated by ':' or ','.
absl::StatusOr<std::vector<std::string>> ReadNames(std::string_view text) {
  std::vector<std::string> names;
  for (const std::string_view listed : SplitOutsideQuotes(text, ',')) {
    for (const std::string_view typed : SplitOutsideQuotes(listed, ':')) {
      LOUPE_ASSIGN_OR_RETURN(names.emplace_back(), UnquoteName(typed));
      if (names.back().empty()) return absl::InvalidArgumentError("a name is missing");
    }
  }
  return names;
}

}  // namespace

absl::StatusOr<FactorQuestion> ParseFactorQuestion(std::string_view what, std::string_view question) {
  const std::vector<std::string_view> sides = SplitOutsideQuotes(question, '|');
  FactorQuestion result;
  absl::StatusOr<std::vector<std::string>> names = absl::InvalidArgumentError("there is more than one '|'");
  if (sides.size() <= 2) names = ReadNames(sides.front());
  if (names.ok()) {
    result.factors = *std::move(names);
    names = sides.size() == 2 ? ReadNames(sides.back()) : std::vector<std::string>();
  }
  if (!names.ok()) {
    return absl::InvalidArgumentError(
        fmt::format("{} '{}': {}; write factors to compare, '|', and factors to hold fixed, such as 'input | output'",
                    what, question, std::string(names.status().message())));
  }
  result.within = *std::move(names);
  std::vector<std::string> all = result.within;
  all.insert(all.end(), result.factors.begin(), result.factors.end());
  for (const std::string& name : all) {
    if (std::count(all.begin(), all.end(), name) == 1) continue;
    return absl::InvalidArgumentError(fmt::format("{} '{}': '{}' stands there twice", what, question, name));
  }
  return result;
}

}  // namespace loupe::analysis::stats
