#include "analysis/stats/ordered_projection.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace loupe::analysis::stats {

using Eigen::Index;
using Eigen::VectorXd;

OrderedProjection::OrderedProjection(const Eigen::MatrixXd& x, const VectorXd& y, VectorXd lengths)
    : x_(x),
      lengths_(std::move(lengths)),
      reflectors_(x.rows(), std::min(x.rows(), x.cols())),
      triangles_(kBlock, reflectors_.cols()),
      y_(y) {
  triangles_.setZero();
}

OrderedProjection::Gain OrderedProjection::Add(Index first, Index count) {
  Gain gain;
  // In slices: the reflections so far are applied to a whole slice at matrix speed, those within it one by one.
  constexpr Index kSlice = 32;
  for (Index begin = first; begin < first + count && rank_ < x_.rows(); begin += kSlice) {
    AddSlice(begin, std::min(kSlice, first + count - begin), gain);
  }
  return gain;
}

void OrderedProjection::AddSlice(Index first, Index count, Gain& gain) {
  const Index rows = x_.rows();
  Eigen::MatrixXd slice = x_.middleCols(first, count);
  const VectorXd lengths =
      lengths_.size() > 0 ? VectorXd(lengths_.segment(first, count)) : VectorXd(slice.colwise().norm().transpose());
  for (Index begin = 0; begin < rank_; begin += kBlock) ApplyBlock(begin, std::min(kBlock, rank_ - begin), slice);
  const Index before = rank_;
  for (Index j = 0; j < count && rank_ < rows; ++j) {
    auto column = slice.col(j);
    for (Index k = before; k < rank_; ++k) {
      const auto reflector = reflectors_.col(k).tail(rows - k);
      column.tail(rows - k) -= 2.0 * reflector.dot(column.tail(rows - k)) * reflector;
    }
    auto rest = column.tail(rows - rank_);
    const double remainder = rest.norm();
    if (!(remainder > kRankTolerance * lengths(j))) continue;
    rest(0) += rest(0) >= 0 ? remainder : -remainder;
    auto reflector = reflectors_.col(rank_);
    reflector.setZero();
    reflector.tail(rows - rank_) = rest / rest.norm();
    auto y_rest = y_.tail(rows - rank_);
    y_rest -= 2.0 * reflector.tail(rows - rank_).dot(y_rest) * reflector.tail(rows - rank_);
    gain.sum_sq += y_(rank_) * y_(rank_);
    ++gain.rank;
    ExtendTriangle(rank_);
    ++rank_;
    kept_.push_back(first + j);
  }
}

// Reflections begin … begin + count − 1 as I − V T Vᵀ (Schreiber & Van Loan 1989); product H_last ⋯ H_first has Tᵀ.
void OrderedProjection::ApplyBlock(Index begin, Index count, Eigen::MatrixXd& slice) const {
  const Index rows = x_.rows() - begin;
  const auto v = reflectors_.block(begin, begin, rows, count);
  const auto t = triangles_.block(0, begin, count, count).triangularView<Eigen::Upper>();
  const Eigen::MatrixXd projected = t.transpose() * (v.transpose() * slice.bottomRows(rows));
  slice.bottomRows(rows).noalias() -= v * projected;
}

// Column k of its block's T: T_kk = 2, T_1..k−1,k = −2·T·(Vᵀ v_k).
void OrderedProjection::ExtendTriangle(Index k) {
  const Index begin = k - k % kBlock;
  const Index size = k - begin;
  const Index rows = x_.rows() - begin;
  if (size > 0) {
    const VectorXd overlap = reflectors_.block(begin, begin, rows, size).transpose() * reflectors_.col(k).tail(rows);
    const VectorXd coupled = triangles_.block(0, begin, size, size).triangularView<Eigen::Upper>() * overlap;
    triangles_.block(0, k, size, 1) = -2.0 * coupled;
  }
  triangles_(size, k) = 2.0;
}

double OrderedProjection::residual_sum_sq() const { return y_.tail(y_.size() - rank_).squaredNorm(); }

}  // namespace loupe::analysis::stats
