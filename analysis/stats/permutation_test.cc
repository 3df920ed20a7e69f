#include "analysis/stats/permutation_test.h"

#include <cmath>
#include <limits>
#include <map>

#include "Eigen/Core"
#include "Eigen/QR"
#include "analysis/stats/model_matrix.h"
#include "analysis/stats/model_plan.h"
#include "analysis/stats/ordered_projection.h"
#include "analysis/stats/random_stream.h"
#include "analysis/stats/tested_after.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis::stats {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

constexpr int64_t kMostRows = 20000;

// Orthonormal basis of the columns of `x` that `projection` found independent.
MatrixXd Basis(const MatrixXd& x, const std::vector<Index>& kept) {
  const MatrixXd columns = x(Eigen::all, kept);
  const Eigen::HouseholderQR<MatrixXd> qr(columns);
  return qr.householderQ() * MatrixXd::Identity(x.rows(), columns.cols());
}

struct Rows {
  MatrixXd x;                                    // one row per used observation
  VectorXd y;                                    // about the grand mean
  std::vector<std::vector<Index>> exchangeable;  // rows that may trade residuals
};

Rows ExpandRows(const DataTable& data, const PlannedCells& planned, const ModelMatrix& model) {
  Rows rows;
  const CellTable& cells = planned.cells;
  const MatrixXd by_cell = model.Rows(0, static_cast<Index>(cells.cells()));
  rows.x.resize(static_cast<Index>(cells.total_n), model.column_count());
  rows.y.resize(rows.x.rows());
  std::map<int32_t, std::vector<Index>> groups;
  Index at = 0;
  for (size_t row = 0; row < data.rows(); ++row) {
    const int32_t cell = cells.cell_of_row[row];
    if (cell < 0) continue;
    rows.x.row(at) = by_cell.row(cell);
    rows.y(at) = cells.Centred(data.response_deviation[row]);
    groups[planned.plan.has_block ? data.factors[planned.plan.terms.front()[0]].codes[row] : 0].push_back(at);
    ++at;
  }
  for (auto& [block, members] : groups) rows.exchangeable.push_back(std::move(members));
  return rows;
}

}  // namespace

absl::StatusOr<PermutationResult> PermutationF(const DataTable& data, const AnovaOptions& options,
                                               const PermutationOptions& permutation) {
  if (permutation.permutations < 99) {
    return absl::InvalidArgumentError(fmt::format(
        "{} permutations are too few for a p-value; ask for at least 99, better 9999", permutation.permutations));
  }
  LOUPE_ASSIGN_OR_RETURN(const AnovaTable table, FitAnova(data, options));
  if (table.sample.used > kMostRows) {
    return absl::InvalidArgumentError(fmt::format(
        "a permutation test of {} rows would take long and say what the F test says; use that", table.sample.used));
  }
  LOUPE_ASSIGN_OR_RETURN(const PlannedCells planned, PlanCells(data, options));
  const ModelMatrix model(planned.cells, planned.plan.terms);
  const Rows rows = ExpandRows(data, planned, model);
  RandomStream random(permutation.seed);
  PermutationResult result{.terms = {}, .permutations = permutation.permutations, .seed = permutation.seed};
  for (size_t t = 0; t < table.terms.size(); ++t) {
    const AnovaTerm& term = table.terms[t];
    if (term.is_block) continue;
    PermutationTerm& out = result.terms.emplace_back();
    out.term = term.term;
    out.f = term.f;
    out.p = out.p_error = std::numeric_limits<double>::quiet_NaN();
    if (!term.estimable || std::isnan(term.f)) continue;
    OrderedProjection projection(rows.x, rows.y);
    projection.Add(0, 1);
    for (const size_t u : TestedAfter(planned.plan.terms, t, options.ss_type)) {
      projection.Add(model.columns()[u].first, model.columns()[u].count);
    }
    const MatrixXd reduced = Basis(rows.x, projection.kept());
    projection.Add(model.columns()[t].first, model.columns()[t].count);
    for (size_t u = 0; u < planned.plan.terms.size(); ++u) {  // what the F's error is measured after
      projection.Add(model.columns()[u].first, model.columns()[u].count);
    }
    const MatrixXd full = Basis(rows.x, projection.kept());
    const MatrixXd with_term = full.leftCols(reduced.cols() + static_cast<Index>(term.df));
    const VectorXd fitted = reduced * (reduced.transpose() * rows.y);
    const VectorXd residual = rows.y - fitted;
    const auto ratio = [&](const VectorXd& y) {
      const VectorXd after = y - reduced * (reduced.transpose() * y);
      const double explained = (with_term.transpose() * after).squaredNorm();
      const double rest = (y - full * (full.transpose() * y)).squaredNorm();
      return explained / rest;
    };
    const double observed = ratio(rows.y) * (1 - 1e-10);  // ties by rounding count as reached
    int64_t reached = 0;
    VectorXd y(rows.y.size());
    for (int64_t i = 0; i < permutation.permutations; ++i) {
      for (const std::vector<Index>& group : rows.exchangeable) {
        std::vector<Index> order = group;
        random.Shuffle(order);
        for (size_t j = 0; j < group.size(); ++j) y(group[j]) = fitted(group[j]) + residual(order[j]);
      }
      if (ratio(y) >= observed) ++reached;
    }
    const auto count = static_cast<double>(permutation.permutations);
    out.p = (1 + static_cast<double>(reached)) / (1 + count);
    out.p_error = std::sqrt(out.p * (1 - out.p) / count);
  }
  return result;
}

}  // namespace loupe::analysis::stats
