#include "cli/named_cell.h"

#include "fmt/format.h"

namespace loupe::cli {

absl::StatusOr<analysis::NamedCell> ParseNamedCell(const std::vector<std::string>& entries) {
  analysis::NamedCell cell;
  for (const std::string& entry : entries) {
    const size_t equals = entry.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == entry.size()) {
      return absl::InvalidArgumentError(
          fmt::format("'{}': expected factor=level, such as input=SA_in (separated by commas)", entry));
    }
    if (!cell.emplace(entry.substr(0, equals), entry.substr(equals + 1)).second) {
      return absl::InvalidArgumentError(
          fmt::format("'{}': the factor '{}' is named twice", entry, entry.substr(0, equals)));
    }
  }
  return cell;
}

}  // namespace loupe::cli
