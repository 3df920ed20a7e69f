#include "analysis/stats/ordered_projection.h"

#include <algorithm>
#include <cmath>

namespace loupe::analysis {

using Eigen::Index;
using Eigen::VectorXd;

OrderedProjection::OrderedProjection(const Eigen::MatrixXd& x, const VectorXd& y)
    : x_(x), reflectors_(x.rows(), std::min(x.rows(), x.cols())), y_(y) {}

OrderedProjection::Gain OrderedProjection::Add(Index first, Index count) {
  Gain gain;
  const Index rows = x_.rows();
  for (Index j = first; j < first + count && rank_ < rows; ++j) {
    VectorXd column = x_.col(j);
    const double length = column.norm();
    for (Index k = 0; k < rank_; ++k) {
      const auto reflector = reflectors_.col(k).tail(rows - k);
      column.tail(rows - k) -= 2.0 * reflector.dot(column.tail(rows - k)) * reflector;
    }
    auto rest = column.tail(rows - rank_);
    const double remainder = rest.norm();
    if (!(remainder > kRankTolerance * length)) continue;
    rest(0) += rest(0) >= 0 ? remainder : -remainder;
    auto reflector = reflectors_.col(rank_);
    reflector.setZero();
    reflector.tail(rows - rank_) = rest / rest.norm();
    auto y_rest = y_.tail(rows - rank_);
    y_rest -= 2.0 * reflector.tail(rows - rank_).dot(y_rest) * reflector.tail(rows - rank_);
    gain.sum_sq += y_(rank_) * y_(rank_);
    ++gain.rank;
    ++rank_;
    kept_.push_back(j);
  }
  return gain;
}

double OrderedProjection::residual_sum_sq() const { return y_.tail(y_.size() - rank_).squaredNorm(); }

}  // namespace loupe::analysis
