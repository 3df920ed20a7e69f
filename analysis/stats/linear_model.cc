#include "analysis/stats/linear_model.h"

#include <limits>

#include "Eigen/QR"
#include "analysis/stats/model_plan.h"
#include "common/status_macros.h"

namespace loupe::analysis::stats {

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
  const CellTable& cells = model->cells_;
  model->matrix_ = std::make_unique<ModelMatrix>(cells, planned.plan.terms);
  model->grid_ = std::make_unique<ReferenceGrid>(cells, *model->matrix_);
  LOUPE_ASSIGN_OR_RETURN(ModelReduction created, ModelReduction::Create(*model->matrix_, cells));
  model->reduction_ = std::make_unique<ModelReduction>(std::move(created));
  const ModelReduction& reduction = *model->reduction_;
  model->residual_df_ = cells.total_n - static_cast<double>(reduction.rank());
  if (model->residual_df_ < 1) return NoResidualError(data, planned, reduction.rank());
  model->scaled_residual_sum_sq_ = cells.WithoutRounding(reduction.lack_of_fit_sum_sq() + cells.pure_error_sum_sq);

  model->kept_ = reduction.kept();
  const Index columns = reduction.r().cols(), rank = static_cast<Index>(model->kept_.size());
  for (Index column = 0, next = 0; column < columns; ++column) {
    if (next < rank && model->kept_[static_cast<size_t>(next)] == column) {
      ++next;
    } else {
      model->dropped_.push_back(column);
    }
  }
  model->dependence_.resize(rank, static_cast<Index>(model->dropped_.size()));
  model->coefficients_.resize(rank);
  if (rank > 0) {
    const Eigen::HouseholderQR<MatrixXd> qr(MatrixXd(reduction.r()(Eigen::all, model->kept_)));
    model->r_ = qr.matrixQR().topRows(rank).triangularView<Eigen::Upper>();
    const auto upper = model->r_.triangularView<Eigen::Upper>();
    const VectorXd qty = qr.householderQ().adjoint() * reduction.qty();
    model->coefficients_ = upper.solve(qty.head(rank));
    if (!model->dropped_.empty()) {
      const MatrixXd q_dropped = qr.householderQ().adjoint() * MatrixXd(reduction.r()(Eigen::all, model->dropped_));
      model->dependence_ = upper.solve(q_dropped.topRows(rank));
    }
  } else {
    model->r_.resize(0, 0);
  }
  model->group_effects_ = reduction.group_mean();
  if (rank > 0)
    model->group_effects_ -= MatrixXd(reduction.group_rows()(Eigen::all, model->kept_)) * model->coefficients_;

  constexpr Index kMostKept = Index{1} << 22;
  if (rank * static_cast<Index>(cells.cells()) <= kMostKept) {
    MatrixXd rows(rank, static_cast<Index>(cells.cells()));
    model->ForEachCell([&](size_t cell, Index, const Eigen::Ref<const VectorXd>& outside) {
      rows.col(static_cast<Index>(cell)) = outside;
    });
    model->outside_rows_ = std::move(rows);
  }
  model->fitted_.resize(static_cast<Index>(cells.cells()));
  model->ForEachCell([&](size_t cell, Index group, const Eigen::Ref<const VectorXd>& outside) {
    model->fitted_(static_cast<Index>(cell)) = model->group_effects_(group) + outside.dot(model->coefficients_);
  });
  return model;
}

// `outside`: the cell's kept outside columns.
template <typename Body>
void LinearModel::ForEachCell(const Body& body) const {
  if (outside_rows_.cols() == static_cast<Index>(cells_.cells())) {
    for (size_t cell = 0; cell < cells_.cells(); ++cell) {
      body(cell, static_cast<Index>(reduction_->group_of_cell()[cell]), outside_rows_.col(static_cast<Index>(cell)));
    }
    return;
  }
  const std::vector<size_t>& terms = reduction_->outside();
  std::vector<double> row(static_cast<size_t>(reduction_->r().cols()) + 1);
  std::vector<int32_t> levels(cells_.factors.size());
  VectorXd outside(static_cast<Index>(kept_.size()));
  for (size_t cell = 0; cell < cells_.cells(); ++cell) {
    for (size_t f = 0; f < levels.size(); ++f) levels[f] = cells_.codes[f][cell];
    matrix_->FillTerms(terms, levels, row.data());
    for (size_t k = 0; k < kept_.size(); ++k) outside(static_cast<Index>(k)) = row[static_cast<size_t>(kept_[k])];
    body(cell, static_cast<Index>(reduction_->group_of_cell()[cell]), outside);
  }
}

// Semi-normal equations with R from QR, and one step of correction (Björck 1987): as good as a new QR.
double LinearModel::LackOfFit(const VectorXd& cell_means) const {
  const Index groups = reduction_->groups(), rank = static_cast<Index>(kept_.size());
  const MatrixXd group_rows = reduction_->group_rows()(Eigen::all, kept_);
  VectorXd left = cell_means;
  for (int pass = 0; pass < 2; ++pass) {
    VectorXd group_mean = VectorXd::Zero(groups), moment = VectorXd::Zero(rank);
    ForEachCell([&](size_t cell, Index group, const Eigen::Ref<const VectorXd>& outside) {
      const double weighted = cells_.n[cell] * left(static_cast<Index>(cell));
      group_mean(group) += weighted;
      moment += weighted * (outside - group_rows.row(group).transpose());
    });
    group_mean.array() /= reduction_->group_n().array();
    VectorXd slope = moment;
    if (rank > 0) {
      r_.transpose().triangularView<Eigen::Lower>().solveInPlace(slope);
      r_.triangularView<Eigen::Upper>().solveInPlace(slope);
    }
    ForEachCell([&](size_t cell, Index group, const Eigen::Ref<const VectorXd>& outside) {
      left(static_cast<Index>(cell)) -= group_mean(group) + (outside - group_rows.row(group).transpose()).dot(slope);
    });
  }
  double sum = 0;
  for (size_t cell = 0; cell < cells_.cells(); ++cell)
    sum += cells_.n[cell] * left(static_cast<Index>(cell)) * left(static_cast<Index>(cell));
  return sum;
}

std::vector<double> LinearModel::Leverages() const {
  std::vector<double> leverages(cells_.cells());
  const MatrixXd group_rows = reduction_->group_rows()(Eigen::all, kept_);
  constexpr Index kBlock = 512;
  MatrixXd block(static_cast<Index>(kept_.size()), kBlock);
  Index filled = 0;
  const auto flush = [&](size_t end) {
    if (filled == 0) return;
    if (!kept_.empty()) r_.transpose().triangularView<Eigen::Lower>().solveInPlace(block.leftCols(filled));
    for (Index i = 0; i < filled; ++i) {
      const size_t cell = end - static_cast<size_t>(filled - i);
      leverages[cell] = 1 / reduction_->group_n()(reduction_->group_of_cell()[cell]) + block.col(i).squaredNorm();
    }
    filled = 0;
  };
  ForEachCell([&](size_t cell, Index group, const Eigen::Ref<const VectorXd>& outside) {
    block.col(filled++) = outside - group_rows.row(group).transpose();
    if (filled == kBlock) flush(cell + 1);
  });
  flush(cells_.cells());
  return leverages;
}

// Per combination: its weights on the group means, and what is left for the outside columns. The inside columns of all
// G combinations of S, occurring or not, are an orthogonal matrix T times √G, so that L β_inside = (L Tᵀ/G) γ; what
// falls on combinations that do not occur is determined by nothing.
CombinationParts LinearModel::Decompose(const std::vector<RowVectorXd>& combinations) const {
  const auto count = static_cast<Index>(combinations.size());
  const Index groups = reduction_->groups(), columns = reduction_->r().cols(),
              rank_outside = static_cast<Index>(kept_.size());
  const auto missing = static_cast<Index>(reduction_->missing_groups().size());
  const Index combinations_of_set = groups + missing;
  MatrixXd all_weights(combinations_of_set, count), outside(columns, count);
  CombinationParts parts;
  parts.intercept.resize(count);
  parts.length.resize(count);
  for (Index i = 0; i < count; ++i) {
    const RowVectorXd& l = combinations[static_cast<size_t>(i)];
    parts.intercept(i) = l(0);
    parts.length(i) = l.norm();
    all_weights.col(i).setConstant(l(0) / static_cast<double>(combinations_of_set));
    Index at = 0;
    for (const size_t t : reduction_->outside()) {
      const TermColumns own = matrix_->columns()[t];
      outside.col(i).segment(at, own.count) = l.segment(own.first, own.count).transpose();
      at += own.count;
    }
  }
  std::vector<double> row;
  for (const size_t t : reduction_->inside()) {
    const TermColumns own = matrix_->columns()[t];
    MatrixXd part(own.count, count);
    for (Index i = 0; i < count; ++i)
      part.col(i) = combinations[static_cast<size_t>(i)].segment(own.first, own.count).transpose();
    if (part.isZero(0.0)) continue;
    row.resize(static_cast<size_t>(own.count));
    for (Index g = 0; g < combinations_of_set; ++g) {
      matrix_->FillTerms(
          {t}, g < groups ? reduction_->group_levels(g) : reduction_->missing_groups()[static_cast<size_t>(g - groups)],
          row.data());
      const Eigen::Map<const RowVectorXd> values(row.data(), own.count);
      all_weights.row(g) += values * part / static_cast<double>(combinations_of_set);
    }
  }
  const auto weights = all_weights.topRows(groups);
  outside -= reduction_->group_rows().transpose() * weights;
  const MatrixXd kept = outside(kept_, Eigen::all);
  parts.white.resize(groups + rank_outside, count);
  parts.white.topRows(groups) = reduction_->group_n().cwiseSqrt().cwiseInverse().asDiagonal() * weights;
  if (rank_outside > 0)
    parts.white.bottomRows(rank_outside) = r_.transpose().triangularView<Eigen::Lower>().solve(kept);
  MatrixXd dependent = outside(dropped_, Eigen::all);
  if (rank_outside > 0 && !dropped_.empty()) dependent -= dependence_.transpose() * kept;
  parts.gap.resize(missing + dependent.rows(), count);
  parts.gap.topRows(missing) = all_weights.bottomRows(missing);
  parts.gap.bottomRows(dependent.rows()) = dependent;
  // L β = w·γ + L_B β_B = w·ȳ + (L_B − w·x̄_B) β_B.
  parts.deviation = weights.transpose() * reduction_->group_mean();
  if (rank_outside > 0) parts.deviation += kept.transpose() * coefficients_;
  parts.deviation = parts.deviation.unaryExpr([this](double value) { return cells_.unit.Up(value); });
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
  const double level = parts.intercept.dot(weights) * (data_->response_origin + cells_.centre());
  const double deviation = parts.deviation.dot(weights);
  return {.estimable = true,
          .value = level + deviation,
          .deviation = deviation,
          .std_error = residual_sd() * (parts.white * weights).norm()};
}

Estimate LinearModel::Evaluate(const RowVectorXd& combination) const {
  return Combine(Decompose({combination}), VectorXd::Ones(1));
}

MatrixXd LinearModel::UnscaledCovariance(const std::vector<RowVectorXd>& combinations) const {
  const MatrixXd white = Decompose(combinations).white;
  return white.transpose() * white;
}

}  // namespace loupe::analysis::stats
