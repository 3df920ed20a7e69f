#include "analysis/report/fold_cells.h"

#include <algorithm>
#include <map>

#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::analysis {

std::string CellName(const std::vector<std::string>& levels) { return fmt::format("{}", fmt::join(levels, ", ")); }

DataTable FoldCells(const DataTable& data, const std::vector<std::string>& cell_factors, const std::string& block) {
  DataTable folded;
  folded.response_name = data.response_name;
  folded.response_origin = data.response_origin;
  folded.response_deviation = data.response_deviation;
  folded.status = data.status;
  std::vector<const Factor*> factors;
  Factor cell{kCellFactor, {}, {}};
  for (const Factor& factor : data.factors) {
    if (std::find(cell_factors.begin(), cell_factors.end(), factor.name) != cell_factors.end())
      factors.push_back(&factor);
  }
  std::map<std::vector<int32_t>, int32_t> code_of;
  for (size_t row = 0; row < data.rows(); ++row) {
    std::vector<int32_t> codes;
    for (const Factor* factor : factors) codes.push_back(factor->codes[row]);
    if (std::find(codes.begin(), codes.end(), kMissingLevel) != codes.end()) {
      cell.codes.push_back(kMissingLevel);
      continue;
    }
    const auto [found, added] = code_of.emplace(codes, static_cast<int32_t>(code_of.size()));
    if (added) {
      std::vector<std::string> names;
      for (size_t f = 0; f < factors.size(); ++f) names.push_back(factors[f]->levels[static_cast<size_t>(codes[f])]);
      cell.levels.push_back(CellName(names));
    }
    cell.codes.push_back(found->second);
  }
  folded.factors.push_back(std::move(cell));
  for (const Factor& factor : data.factors) {
    if (factor.name == block) folded.factors.push_back(factor);
  }
  return folded;
}

}  // namespace loupe::analysis
