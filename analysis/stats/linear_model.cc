#include "analysis/stats/linear_model.h"

#include <limits>

#include "Eigen/QR"
#include "analysis/stats/model_plan.h"
#include "analysis/stats/ordered_projection.h"
#include "common/status_macros.h"

namespace loupe::analysis {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::RowVectorXd;
using Eigen::VectorXd;

absl::StatusOr<std::unique_ptr<LinearModel>> LinearModel::Fit(const DataTable& data, const AnovaOptions& options) {
  LOUPE_ASSIGN_OR_RETURN(PlannedCells planned, PlanCells(data, options));
  std::unique_ptr<LinearModel> model(new LinearModel());
  model->data_ = &data;
  model->has_block_ = planned.plan.has_block;
  model->formula_ = FormulaText(planned.plan.terms, data);
  model->cells_ = planned.cells;
  model->matrix_ = std::make_unique<ModelMatrix>(model->cells_, planned.plan.terms);
  LOUPE_ASSIGN_OR_RETURN(const Reduced reduced, ReduceModel(*model->matrix_, model->cells_));
  OrderedProjection full(reduced.r, reduced.qty);
  full.Add(0, model->matrix_->column_count());
  model->kept_ = full.kept();
  model->residual_df_ = model->cells_.total_n - static_cast<double>(full.rank());
  if (model->residual_df_ < 1) return NoResidualError(data, planned, full.rank());
  model->residual_sum_sq_ = reduced.lack_of_fit_sum_sq + full.residual_sum_sq() + model->cells_.pure_error_sum_sq;

  std::vector<bool> is_kept(static_cast<size_t>(model->matrix_->column_count()), false);
  for (const Index column : model->kept_) is_kept[static_cast<size_t>(column)] = true;
  for (Index column = 0; column < model->matrix_->column_count(); ++column) {
    if (!is_kept[static_cast<size_t>(column)]) model->dropped_.push_back(column);
  }
  const Index rank = full.rank();
  const MatrixXd kept = reduced.r(Eigen::all, model->kept_);
  const Eigen::HouseholderQR<MatrixXd> qr(kept);
  model->r_ = qr.matrixQR().topRows(rank).triangularView<Eigen::Upper>();
  const auto upper = model->r_.triangularView<Eigen::Upper>();
  const MatrixXd q_dropped = qr.householderQ().adjoint() * MatrixXd(reduced.r(Eigen::all, model->dropped_));
  // Solving for no columns at all, Eigen takes the address of the first.
  model->dependence_.resize(rank, q_dropped.cols());
  if (q_dropped.cols() > 0) model->dependence_ = upper.solve(q_dropped.topRows(rank));
  const VectorXd qty = qr.householderQ().adjoint() * reduced.qty;
  model->coefficients_ = upper.solve(qty.head(rank));

  const auto cell_count = static_cast<Index>(model->cells_.cells());
  model->fitted_.resize(cell_count);
  model->leverage_.resize(cell_count);
  constexpr Index kBlock = 1024;
  for (Index begin = 0; begin < cell_count; begin += kBlock) {
    const Index count = std::min(kBlock, cell_count - begin);
    const MatrixXd rows = model->matrix_->Rows(begin, count)(Eigen::all, model->kept_);
    model->fitted_.segment(begin, count) = rows * model->coefficients_;
    const MatrixXd white = model->r_.transpose().triangularView<Eigen::Lower>().solve(rows.transpose());
    model->leverage_.segment(begin, count) = white.colwise().squaredNorm().transpose();
  }
  return model;
}

CombinationParts LinearModel::Decompose(const std::vector<RowVectorXd>& combinations) const {
  const auto count = static_cast<Index>(combinations.size());
  MatrixXd all(matrix_->column_count(), count);
  for (Index i = 0; i < count; ++i) all.col(i) = combinations[static_cast<size_t>(i)].transpose();
  const MatrixXd kept = all(kept_, Eigen::all);
  CombinationParts parts;
  parts.deviation = kept.transpose() * coefficients_;
  parts.white = r_.transpose().triangularView<Eigen::Lower>().solve(kept);
  parts.gap = all(dropped_, Eigen::all) - dependence_.transpose() * kept;
  parts.intercept = all.row(0).transpose();
  parts.length = all.colwise().norm().transpose();
  return parts;
}

// As the rank's tolerance: entries of a gap are either clearly there or rounding.
constexpr double kGapTolerance = 1e-7;

bool LinearModel::IsEstimable(const CombinationParts& parts, Index i, Index j) {
  if (parts.gap.rows() == 0) return true;
  const double distance = (parts.gap.col(i) - parts.gap.col(j)).lpNorm<Eigen::Infinity>();
  return distance <= kGapTolerance * (parts.length(i) + parts.length(j));
}

Estimate LinearModel::Combine(const CombinationParts& parts, const VectorXd& weights) const {
  const double yardstick = parts.length.cwiseProduct(weights.cwiseAbs()).sum();
  if (parts.gap.rows() > 0 && !((parts.gap * weights).lpNorm<Eigen::Infinity>() <= kGapTolerance * yardstick)) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    return {.estimable = false, .value = nan, .deviation = nan, .std_error = nan};
  }
  const double level = parts.intercept.dot(weights) * (data_->response_origin + cells_.centre);
  const double deviation = parts.deviation.dot(weights);
  return {.estimable = true, .value = level + deviation, .deviation = deviation,
          .std_error = residual_sd() * (parts.white * weights).norm()};
}

Estimate LinearModel::Evaluate(const RowVectorXd& combination) const {
  return Combine(Decompose({combination}), VectorXd::Ones(1));
}

MatrixXd LinearModel::UnscaledCovariance(const std::vector<RowVectorXd>& combinations) const {
  const MatrixXd white = Decompose(combinations).white;
  return white.transpose() * white;
}

}  // namespace loupe::analysis
