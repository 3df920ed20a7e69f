#include "cli/named_cell.h"

#include "analysis/stats/quoted_name.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::cli {

using analysis::stats::SplitOutsideQuotes;
using analysis::stats::UnquoteName;

absl::StatusOr<std::vector<std::string>> ParseNames(const std::vector<std::string>& values) {
  std::vector<std::string> names;
  for (const std::string& value : values) {
    for (const std::string_view part : SplitOutsideQuotes(value, ',')) {
      LOUPE_ASSIGN_OR_RETURN(std::string name, UnquoteName(part));
      if (name.empty()) return absl::InvalidArgumentError(fmt::format("'{}': a name is missing beside a comma", value));
      names.push_back(std::move(name));
    }
  }
  return names;
}

absl::StatusOr<analysis::report::NamedCell> ParseNamedCell(const std::vector<std::string>& values) {
  analysis::report::NamedCell cell;
  for (const std::string& value : values) {
    for (const std::string_view entry : SplitOutsideQuotes(value, ',')) {
      const std::string_view factor_text = SplitOutsideQuotes(entry, '=').front();
      if (factor_text.size() + 1 >= entry.size() || factor_text.empty()) {
        return absl::InvalidArgumentError(
            fmt::format("'{}': expected factor=level, such as input=SA_in (separated by commas)", entry));
      }
      LOUPE_ASSIGN_OR_RETURN(const std::string factor, UnquoteName(factor_text));
      LOUPE_ASSIGN_OR_RETURN(std::string level, UnquoteName(entry.substr(factor_text.size() + 1)));
      if (!cell.emplace(factor, std::move(level)).second) {
        return absl::InvalidArgumentError(fmt::format("'{}': the factor '{}' is named twice", entry, factor));
      }
    }
  }
  return cell;
}

}  // namespace loupe::cli
