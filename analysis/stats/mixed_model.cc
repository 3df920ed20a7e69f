#include "analysis/stats/mixed_model.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "Eigen/QR"
#include "analysis/stats/distributions.h"
#include "analysis/stats/model_matrix.h"
#include "analysis/stats/model_plan.h"
#include "analysis/stats/model_reduction.h"
#include "analysis/stats/ordered_projection.h"
#include "analysis/stats/tested_after.h"
#include "boost/math/tools/minima.hpp"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis::stats {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

// The rows of the fixed part, taken apart into what varies within blocks (already reduced by QR) and the block means.
class SplitRows {
 public:
  SplitRows(const CellTable& cells, const ModelMatrix& fixed, size_t block_position)
      : pure_error_(cells.pure_error_sum_sq), n_(cells.total_n) {
    const auto cell_count = static_cast<Index>(cells.cells());
    const auto blocks = static_cast<Index>(cells.levels(block_position));
    const Index columns = fixed.column_count() + 1;
    MatrixXd rows(cell_count, columns);  // [X y] per cell
    rows.leftCols(columns - 1) = fixed.Rows(0, cell_count);
    block_n_ = VectorXd::Zero(blocks);
    means_ = MatrixXd::Zero(blocks, columns);
    const auto block_of = [&](Index cell) { return cells.codes[block_position][static_cast<size_t>(cell)]; };
    for (Index cell = 0; cell < cell_count; ++cell) {
      rows(cell, columns - 1) = cells.mean[static_cast<size_t>(cell)];
      block_n_(block_of(cell)) += cells.n[static_cast<size_t>(cell)];
      means_.row(block_of(cell)) += cells.n[static_cast<size_t>(cell)] * rows.row(cell);
    }
    for (Index block = 0; block < blocks; ++block) means_.row(block) /= block_n_(block);
    for (Index cell = 0; cell < cell_count; ++cell) {
      rows.row(cell) = std::sqrt(cells.n[static_cast<size_t>(cell)]) * (rows.row(cell) - means_.row(block_of(cell)));
    }
    varies_within_ = (rows.leftCols(columns - 1).cwiseAbs().colwise().maxCoeff().array() > 1e-9).matrix();
    const Eigen::HouseholderQR<MatrixXd> qr(rows);
    const Index kept = std::min(cell_count, columns);
    within_ = qr.matrixQR().topRows(kept).triangularView<Eigen::Upper>();
  }

  // [X y] whitened by V(θ)^(−½), up to an orthogonal turn.
  MatrixXd Whitened(double theta) const {
    MatrixXd rows(within_.rows() + means_.rows(), within_.cols());
    rows.topRows(within_.rows()) = within_;
    for (Index block = 0; block < means_.rows(); ++block) {
      rows.row(within_.rows() + block) = means_.row(block) * std::sqrt(block_n_(block) / (1 + theta * block_n_(block)));
    }
    return rows;
  }

  // Up to a constant, −2 × the restricted log-likelihood maximised over β and σ².
  double RemlCriterion(double theta, const std::vector<Index>& columns) const {
    const MatrixXd rows = Whitened(theta);
    const auto p = static_cast<Index>(columns.size());
    MatrixXd xy(rows.rows(), p + 1);
    xy.leftCols(p) = rows(Eigen::all, columns);
    xy.col(p) = rows.col(rows.cols() - 1);
    const Eigen::HouseholderQR<MatrixXd> qr(xy);
    double criterion = 0;
    for (Index j = 0; j < p; ++j) criterion += 2 * std::log(std::abs(qr.matrixQR()(j, j)));
    const double rss = pure_error_ + (xy.rows() > p ? std::pow(qr.matrixQR()(p, p), 2) : 0.0);
    for (Index block = 0; block < block_n_.size(); ++block) criterion += std::log1p(theta * block_n_(block));
    return criterion + (n_ - static_cast<double>(p)) * std::log(rss);
  }

  // Residual sum of squares with one mean per block.
  double WithinResidual() const {
    const MatrixXd x = within_.leftCols(within_.cols() - 1);
    OrderedProjection projection(x, within_.col(within_.cols() - 1));
    projection.Add(1, x.cols() - 1);
    return projection.residual_sum_sq() + pure_error_;
  }
  bool VariesWithin(TermColumns columns) const { return varies_within_.segment(columns.first, columns.count).any(); }
  Index blocks() const { return block_n_.size(); }
  double n() const { return n_; }
  double pure_error() const { return pure_error_; }

 private:
  double pure_error_ = 0;
  double n_ = 0;
  MatrixXd within_;  // triangular factor of [X y] about block means
  MatrixXd means_;   // [blocks, columns + 1]
  VectorXd block_n_;
  Eigen::Matrix<bool, 1, Eigen::Dynamic> varies_within_;
};

double MinimiseReml(const SplitRows& rows, const std::vector<Index>& columns) {
  const auto criterion = [&](double log_theta) { return rows.RemlCriterion(std::exp(log_theta), columns); };
  constexpr double kLow = -14.0, kHigh = 14.0;  // θ from 1e-6 to 1e6
  double best = kLow;
  for (double at = kLow; at <= kHigh; at += 1.0) {
    if (criterion(at) < criterion(best)) best = at;
  }
  const auto minimum = boost::math::tools::brent_find_minima(criterion, best - 1.0, best + 1.0, 30);
  return minimum.second < rows.RemlCriterion(0.0, columns) ? std::exp(minimum.first) : 0.0;
}

// Henderson's method 3.
struct MeanSquares {
  double block_variance = 0;
  double residual_variance = 0;
};
absl::StatusOr<MeanSquares> ExpectedMeanSquares(const DataTable& data, const PlannedCells& planned) {
  std::vector<ModelTerm> block_last(planned.plan.terms.begin() + 1, planned.plan.terms.end());
  block_last.push_back(planned.plan.terms.front());
  const ModelMatrix model(planned.cells, block_last);
  LOUPE_ASSIGN_OR_RETURN(const ModelReduction reduction, ModelReduction::Create(model, planned.cells));
  const Reduced reduced = reduction.Whole();
  OrderedProjection projection(reduced.r, reduced.qty);
  const TermColumns block = model.columns().back();
  projection.Add(0, block.first);
  const std::vector<Index> kept = projection.kept();
  const OrderedProjection::Gain gain = projection.Add(block.first, block.count);
  const double residual_df = planned.cells.total_n - static_cast<double>(projection.rank());
  if (residual_df < 1) return NoResidualError(data, planned, projection.rank());
  MeanSquares result;
  result.residual_variance =
      (reduced.lack_of_fit_sum_sq + projection.residual_sum_sq() + planned.cells.pure_error_sum_sq) / residual_df;
  if (gain.rank == 0) {
    return absl::InvalidArgumentError(
        fmt::format("the block '{}' is wholly aliased with the other terms, so its variance "
                    "cannot be estimated",
                    TermName(planned.plan.terms.front(), data)));
  }
  // tr(ZᵀMZ): the indicators' parts outside the fixed columns, on the cells themselves.
  const auto cell_count = static_cast<Index>(planned.cells.cells());
  VectorXd weight(cell_count);
  for (Index cell = 0; cell < cell_count; ++cell) weight(cell) = std::sqrt(planned.cells.n[static_cast<size_t>(cell)]);
  const MatrixXd x = weight.asDiagonal() * MatrixXd(model.Rows(0, cell_count)(Eigen::all, kept));
  const Eigen::HouseholderQR<MatrixXd> qr(x);
  const MatrixXd q = qr.householderQ() * MatrixXd::Identity(cell_count, x.cols());
  const size_t position = static_cast<size_t>(
      std::find(planned.cells.factors.begin(), planned.cells.factors.end(), planned.plan.terms.front()[0]) -
      planned.cells.factors.begin());
  MatrixXd z = MatrixXd::Zero(cell_count, static_cast<Index>(planned.cells.levels(position)));
  for (Index cell = 0; cell < cell_count; ++cell)
    z(cell, planned.cells.codes[position][static_cast<size_t>(cell)]) = weight(cell);
  const double trace = z.squaredNorm() - (q.transpose() * z).squaredNorm();
  const auto df = static_cast<double>(gain.rank);
  result.block_variance = (gain.sum_sq / df - result.residual_variance) / (trace / df);
  return result;
}

void TestTerms(const DataTable& data, const SplitRows& rows, const ModelMatrix& fixed, SumOfSquares type, double theta,
               double residual_variance, MixedModel& result) {
  const MatrixXd whitened = rows.Whitened(theta);
  const MatrixXd x = whitened.leftCols(fixed.column_count());
  const VectorXd y = whitened.col(fixed.column_count());
  double inner = 0, outer = 0;
  OrderedProjection all(x, y);
  all.Add(0, 1);
  for (const TermColumns& columns : fixed.columns()) {
    (rows.VariesWithin(columns) ? inner : outer) += static_cast<double>(all.Add(columns.first, columns.count).rank);
  }
  for (size_t t = 0; t < fixed.terms().size(); ++t) {
    MixedTerm& term = result.terms.emplace_back();
    term.term = TermName(fixed.terms()[t], data);
    OrderedProjection projection(x, y);
    projection.Add(0, 1);
    for (const size_t u : TestedAfter(fixed.terms(), t, type)) {
      projection.Add(fixed.columns()[u].first, fixed.columns()[u].count);
    }
    const OrderedProjection::Gain gain = projection.Add(fixed.columns()[t].first, fixed.columns()[t].count);
    term.df = static_cast<double>(gain.rank);
    term.between_blocks = !rows.VariesWithin(fixed.columns()[t]);
    const auto blocks = static_cast<double>(rows.blocks());
    term.denominator_df = term.between_blocks ? blocks - 1 - outer : rows.n() - blocks - inner;
    term.estimable = gain.rank > 0 && term.denominator_df > 0 && residual_variance > 0;
    term.f = term.estimable ? gain.sum_sq / term.df / residual_variance : std::numeric_limits<double>::quiet_NaN();
    term.p = FUpperTail(term.f, term.df, term.denominator_df);
  }
}

}  // namespace

absl::StatusOr<MixedModel> FitMixedModel(const DataTable& data, const AnovaOptions& options, VarianceMethod method) {
  if (options.block.empty()) {
    return absl::InvalidArgumentError("a mixed model needs a block; name the column of the replicate or seed");
  }
  LOUPE_ASSIGN_OR_RETURN(const PlannedCells planned, PlanCells(data, options));
  if (!planned.plan.has_block) {
    return absl::InvalidArgumentError(
        fmt::format("the block '{}' has only one level in the rows used; nothing varies between "
                    "blocks",
                    options.block));
  }
  const ModelMatrix fixed(planned.cells, {planned.plan.terms.begin() + 1, planned.plan.terms.end()});
  const auto& factors = planned.cells.factors;
  const auto block_position =
      static_cast<size_t>(std::find(factors.begin(), factors.end(), planned.plan.terms.front()[0]) - factors.begin());
  const SplitRows rows(planned.cells, fixed, block_position);

  MixedModel result;
  result.formula = FormulaText(fixed.terms(), data);
  result.block = options.block;
  result.method = method;
  result.blocks = rows.blocks();
  result.sample = planned.cells.sample;
  result.warnings = planned.warnings;

  if (planned.cells.WithoutRounding(rows.WithinResidual()) == 0) {
    return absl::InvalidArgumentError(
        "blocks and terms together reproduce every response exactly, so there is no error and "
        "no variance to estimate");
  }
  const MatrixXd unweighted = rows.Whitened(0.0);
  const MatrixXd x = unweighted.leftCols(fixed.column_count());
  OrderedProjection independent(x, unweighted.col(fixed.column_count()));
  independent.Add(0, fixed.column_count());
  const double freedom = rows.n() - static_cast<double>(independent.rank());
  if (freedom < 1) return NoResidualError(data, planned, independent.rank());

  double theta = 0, residual_variance = 0;  // in unit²
  if (method == VarianceMethod::kReml) {
    theta = MinimiseReml(rows, independent.kept());
    const MatrixXd whitened = rows.Whitened(theta);
    const MatrixXd x_white = whitened.leftCols(fixed.column_count());
    OrderedProjection fit(x_white, whitened.col(fixed.column_count()));
    fit.Add(0, fixed.column_count());
    residual_variance = (fit.residual_sum_sq() + rows.pure_error()) / freedom;
  } else {
    LOUPE_ASSIGN_OR_RETURN(const MeanSquares squares, ExpectedMeanSquares(data, planned));
    residual_variance = squares.residual_variance;
    theta = std::max(0.0, squares.block_variance) / squares.residual_variance;
  }
  result.residual_variance = planned.cells.unit.UpSquared(residual_variance);
  result.block_variance = planned.cells.unit.UpSquared(theta * residual_variance);
  result.intraclass_correlation = theta / (1 + theta);
  if (theta == 0) {
    result.warnings.push_back(
        fmt::format("The variance between blocks of {} is estimated as 0 (its boundary): blocks do not "
                    "differ more than chance explains.",
                    options.block));
  }
  if (result.blocks < 5) {
    result.warnings.push_back(
        fmt::format("{} blocks say little about the variance between blocks; with fewer than five, "
                    "blocks as a fixed factor are the safer reading.",
                    result.blocks));
  }
  TestTerms(data, rows, fixed, options.ss_type, theta, residual_variance, result);
  return result;
}

}  // namespace loupe::analysis::stats
