#include "analysis/stats/reference_grid.h"

#include <algorithm>
#include <set>

namespace loupe::analysis::stats {

ReferenceGrid::ReferenceGrid(const CellTable& cells, const ModelMatrix& matrix) : cells_(cells), matrix_(matrix) {
  const size_t factors = cells.factors.size();
  for (size_t position = 0; position < factors; ++position) {
    if (cells.NestingOf(position).nested) outer_ = cells.NestingOf(position).outer;
  }
  if (!outer_) return;
  entries_.resize(cells.levels(*outer_));
  for (size_t level = 0; level < entries_.size(); ++level) {
    Entry& entry = entries_[level];
    entry.owns.resize(factors);
    for (size_t position = 0; position < factors; ++position) {
      const CellNesting nesting = cells.NestingOf(position);
      entry.owns[position] = nesting.nested && nesting.outer_level == static_cast<int32_t>(level);
    }
    std::set<std::vector<int32_t>> settings;
    std::vector<int32_t> setting(factors, ModelMatrix::kAveraged);
    for (size_t cell = 0; cell < cells.cells(); ++cell) {
      if (cells.codes[*outer_][cell] != static_cast<int32_t>(level)) continue;
      for (size_t position = 0; position < factors; ++position) {
        if (entry.owns[position]) setting[position] = cells.codes[position][cell];
      }
      settings.insert(setting);
    }
    entry.settings.assign(settings.begin(), settings.end());
  }
}

std::optional<Eigen::RowVectorXd> ReferenceGrid::Row(const std::vector<int32_t>& at) const {
  if (!outer_) return matrix_.Row(at);
  Eigen::RowVectorXd sum = Eigen::RowVectorXd::Zero(matrix_.column_count());
  double count = 0;
  for (size_t level = 0; level < entries_.size(); ++level) {
    if (at[*outer_] != ModelMatrix::kAveraged && at[*outer_] != static_cast<int32_t>(level)) continue;
    const Entry& entry = entries_[level];
    std::vector<int32_t> point = at;
    point[*outer_] = static_cast<int32_t>(level);
    bool exists = true;
    for (size_t position = 0; position < at.size(); ++position) {
      const CellNesting nesting = cells_.NestingOf(position);
      if (!nesting.nested || entry.owns[position]) continue;
      exists = exists && (at[position] == ModelMatrix::kAveraged || at[position] == nesting.absent);
      point[position] = nesting.absent;
    }
    if (!exists) continue;
    Eigen::RowVectorXd own = Eigen::RowVectorXd::Zero(matrix_.column_count());
    double settings = 0;
    for (const std::vector<int32_t>& setting : entry.settings) {
      bool matches = true;
      for (size_t position = 0; position < at.size() && matches; ++position) {
        if (!entry.owns[position]) continue;
        matches = at[position] == ModelMatrix::kAveraged || at[position] == setting[position];
        point[position] = setting[position];
      }
      if (!matches) continue;
      own += matrix_.Row(point);
      settings += 1;
    }
    if (settings == 0) continue;
    sum += own / settings;
    count += 1;
  }
  if (count == 0) return std::nullopt;
  return sum / count;
}

}  // namespace loupe::analysis::stats
