// From AnovaOptions to the terms that are fitted: the step shared by everything that fits a model.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/stats/anova.h"
#include "analysis/stats/cell_table.h"
#include "analysis/stats/data_table.h"
#include "analysis/stats/model_formula.h"

namespace loupe::analysis::stats {

struct ModelPlan {
  std::vector<ModelTerm> terms;  // the block first, if there is one
  bool has_block = false;
  std::vector<size_t> factors;  // all that occur in terms, ascending
  std::vector<std::string> warnings;
};

struct PlannedCells {
  ModelPlan plan;
  CellTable cells;
  std::vector<std::string> warnings;  // the table's own, and factors left out
};

// Reads the formula, aggregates the rows and checks that every factor has at least two levels among them. Errors as
// FitAnova's, but for the residual degrees of freedom.
absl::StatusOr<PlannedCells> PlanCells(const DataTable& data, const AnovaOptions& options);

// The error for a model that leaves nothing to estimate the error from.
absl::Status NoResidualError(const DataTable& data, const PlannedCells& planned, int64_t rank);

}  // namespace loupe::analysis::stats
