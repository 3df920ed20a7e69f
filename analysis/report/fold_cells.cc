#include "analysis/report/fold_cells.h"

#include <algorithm>
#include <unordered_map>

#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::analysis::report {

std::string CellName(const std::vector<std::string>& levels) { return fmt::format("{}", fmt::join(levels, ", ")); }

stats::DataTable FoldCells(const stats::DataTable& data, const std::vector<std::string>& cell_factors,
                           const std::string& block) {
  stats::DataTable folded;
  folded.response_name = data.response_name;
  folded.response_origin = data.response_origin;
  folded.response_deviation = data.response_deviation;
  folded.response_rounding = data.response_rounding;
  folded.status = data.status;
  std::vector<const stats::Factor*> factors;
  stats::Factor cell{kCellFactor, {}, {}};
  for (const stats::Factor& factor : data.factors) {
    if (std::find(cell_factors.begin(), cell_factors.end(), factor.name) != cell_factors.end())
      factors.push_back(&factor);
  }
  // Factor by factor, the combinations met so far are numbered in the order of their first row.
  cell.codes.assign(data.rows(), 0);
  size_t count = 1;
  std::unordered_map<int64_t, int32_t> number;
  for (const stats::Factor* factor : factors) {
    number.clear();
    number.reserve(2 * count);
    const auto levels = static_cast<int64_t>(factor->levels.size());
    for (size_t row = 0; row < data.rows(); ++row) {
      int32_t& code = cell.codes[row];
      if (code == stats::kMissingLevel || factor->codes[row] == stats::kMissingLevel) {
        code = stats::kMissingLevel;
        continue;
      }
      code = number.try_emplace(code * levels + factor->codes[row], static_cast<int32_t>(number.size())).first->second;
    }
    count = number.size();
  }
  cell.levels.resize(factors.empty() ? 0 : count);
  std::vector<bool> named(cell.levels.size(), false);
  for (size_t row = 0; row < data.rows() && !factors.empty(); ++row) {
    if (cell.codes[row] == stats::kMissingLevel || named[static_cast<size_t>(cell.codes[row])]) continue;
    std::vector<std::string> names;
    for (const stats::Factor* factor : factors)
      names.push_back(factor->levels[static_cast<size_t>(factor->codes[row])]);
    cell.levels[static_cast<size_t>(cell.codes[row])] = CellName(names);
    named[static_cast<size_t>(cell.codes[row])] = true;
  }
  folded.factors.push_back(std::move(cell));
  for (const stats::Factor& factor : data.factors) {
    if (factor.name == block) folded.factors.push_back(factor);
  }
  return folded;
}

}  // namespace loupe::analysis::report
