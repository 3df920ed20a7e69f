// The least-squares problem of a model on cells, made small: what every fit and every test of its terms is read from.
//
// Two things make it fast where designs are large. First, where the model has every interaction within a set S of
// factors (the blocks alone, or a × b with a, b and a:b), those terms span the indicators of S's combinations that
// occur: they are taken out by group means, exactly, and never enter a QR. Second, the rest is reduced one factor at a
// time: cells that differ in one factor only are turned into their weighted mean and the deviations from it, which only
// the columns of terms with that factor, or with one that is gone already, have a part in. Both are orthogonal
// transformations of the rows (Helmert's), as Householder's are.
#pragma once

#include <utility>
#include <vector>

#include "Eigen/Core"
#include "absl/status/statusor.h"
#include "analysis/stats/cell_table.h"
#include "analysis/stats/model_matrix.h"
#include "analysis/stats/ordered_projection.h"

namespace loupe::analysis::stats {

// All columns on few rows: [m, column_count] and Qᵀy. All least-squares fits of subsets of the columns can be done on
// these, as Q is orthogonal. `lack_of_fit_sum_sq` is what no column explains (without the within-cell part).
struct Reduced {
  Eigen::MatrixXd r;
  Eigen::VectorXd qty;
  double lack_of_fit_sum_sq = 0;
};

class ModelReduction {
 public:
  // `model` and `cells` must outlive this. InvalidArgument: more than 4000 columns besides those of S.
  static absl::StatusOr<ModelReduction> Create(const ModelMatrix& model, const CellTable& cells);

  Eigen::Index rank() const { return groups() + static_cast<Eigen::Index>(kept_.size()); }
  // What no column explains, without the within-cell part; in unit².
  double lack_of_fit_sum_sq() const { return lack_of_fit_sum_sq_; }
  // What `term` explains after the intercept and the terms `after`.
  OrderedProjection::Gain Test(size_t term, const std::vector<size_t>& after) const;
  // Sums of squares of single columns, each after all before it, in the order of the model's terms: (term, sum of
  // squares). Dependent columns are left out, and so are the terms before `first_term`.
  std::vector<std::pair<size_t, double>> SingleColumns(size_t first_term) const;
  // All columns, or those of the intercept and some terms: rows that give every fit of them. y is `response`.
  struct Rows {
    Eigen::MatrixXd x;
    Eigen::VectorXd response;
    Eigen::VectorXd lengths;          // of the columns before the reduction: the yardstick of the rank
    std::vector<Eigen::Index> first;  // per term asked for: its first column in x
  };
  Rows RowsOf(const std::vector<size_t>& terms) const;

  Reduced Whole() const;

  // The parts that a fitted model is made of.
  const std::vector<size_t>& inside() const { return inside_; }    // terms of S
  const std::vector<size_t>& outside() const { return outside_; }  // the others: columns of r() in this order
  Eigen::Index groups() const { return group_n_.size(); }          // combinations of S that occur
  const std::vector<int32_t>& group_of_cell() const { return group_of_cell_; }
  const Eigen::VectorXd& group_n() const { return group_n_; }
  const Eigen::VectorXd& group_mean() const { return group_mean_; }  // of the response about the grand mean, in `unit`
  const Eigen::MatrixXd& group_rows() const { return group_rows_; }  // [groups, outside columns]: weighted means of X
  const Eigen::MatrixXd& r() const { return r_; }                    // [rank outside, outside columns], within groups
  const Eigen::VectorXd& qty() const { return qty_; }
  const std::vector<Eigen::Index>& kept() const { return kept_; }  // independent outside columns, ascending
  const std::vector<int32_t>& group_levels(Eigen::Index group) const {
    return group_levels_[static_cast<size_t>(group)];
  }
  // The combinations of S that do not occur, as group_levels: what the inside terms say of them, nothing determines.
  const std::vector<std::vector<int32_t>>& missing_groups() const { return missing_groups_; }

 private:
  ModelReduction(const ModelMatrix& model, const CellTable& cells) : model_(&model), cells_(&cells) {}
  void ChooseInside();
  void FindMissingGroups();
  void Reduce();
  void KeepIndependent();
  bool IsInside(size_t term) const;
  OrderedProjection::Gain TestLast(size_t term) const;

  const ModelMatrix* model_;
  const CellTable* cells_;
  std::vector<size_t> set_;  // S: positions in cells.factors
  std::vector<size_t> inside_, outside_;
  std::vector<TermColumns> columns_;  // of outside terms within r_; by term
  std::vector<int32_t> group_of_cell_;
  std::vector<std::vector<int32_t>>
      group_levels_;  // per group, per factor of the cells: level, of S's factors; else kAveraged
  std::vector<std::vector<int32_t>> missing_groups_;
  Eigen::VectorXd group_n_, group_mean_;
  Eigen::MatrixXd group_rows_, r_;
  Eigen::VectorXd qty_, lengths_;
  std::vector<Eigen::Index> kept_;
  bool is_triangular_ = false;  // r_ has full column rank and is upper triangular
  double lack_of_fit_sum_sq_ = 0;
};

}  // namespace loupe::analysis::stats
