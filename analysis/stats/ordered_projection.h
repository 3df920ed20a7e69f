// Least squares by adding columns in a given order: what each group of columns explains after all before it.
//
// A column that lies in the span of those before it (its remainder is below kRankTolerance of its length) is set aside,
// not used: the rank found is the number of degrees of freedom that the data can tell apart. Householder reflections
// throughout; a group's sum of squares is the squared length of its own part of Qᵀy, never a difference of residuals.
#pragma once

#include <vector>

#include "Eigen/Core"

namespace loupe::analysis::stats {

// As R's lm: 1e-7. The columns of a factorial design are either clearly independent or dependent to rounding.
inline constexpr double kRankTolerance = 1e-7;

class OrderedProjection {
 public:
  struct Gain {
    Eigen::Index rank = 0;
    double sum_sq = 0;
  };

  // `x` and `y` have the same number of rows; `x` must outlive this, `y` is copied. `lengths`: per column the length
  // that its remainder is compared with, where x is only a part of the rows; empty: its own.
  OrderedProjection(const Eigen::MatrixXd& x, const Eigen::VectorXd& y, Eigen::VectorXd lengths = {});

  // Adds columns first … first + count − 1 of x.
  Gain Add(Eigen::Index first, Eigen::Index count);

  double residual_sum_sq() const;
  Eigen::Index rank() const { return rank_; }
  // Indices of the columns kept, in the order in which they came.
  const std::vector<Eigen::Index>& kept() const { return kept_; }

 private:
  static constexpr Eigen::Index kBlock = 48;  // reflections applied together

  void AddSlice(Eigen::Index first, Eigen::Index count, Gain& gain);
  void ApplyBlock(Eigen::Index begin, Eigen::Index count, Eigen::MatrixXd& slice) const;
  void ExtendTriangle(Eigen::Index k);

  const Eigen::MatrixXd& x_;
  const Eigen::VectorXd lengths_;
  Eigen::MatrixXd reflectors_;  // column k: reflection k, of unit length, zero above row k
  Eigen::MatrixXd triangles_;   // [kBlock, k]: the compact-WY triangle of each block of reflections, side by side
  Eigen::VectorXd y_;
  Eigen::Index rank_ = 0;
  std::vector<Eigen::Index> kept_;
};

}  // namespace loupe::analysis::stats
