// Columns of a linear model on cells, and the triangular factor that all sums of squares are read from.
//
// Coding: sum-to-zero, in the orthonormal (Helmert) basis of that space; any basis of it gives the same sums of squares,
// and this one makes balanced designs exactly orthogonal. In a term T a factor f is coded by contrasts when T without f
// is in the model too (the intercept counts), and by one indicator per level when it is not: 'a:b' without a and b then
// stands for all cell means (Wilkinson & Rogers 1973; the rule R follows).
#pragma once

#include <vector>

#include "Eigen/Core"
#include "absl/status/statusor.h"
#include "analysis/stats/cell_table.h"
#include "analysis/stats/model_formula.h"

namespace loupe::analysis {

struct TermColumns {
  Eigen::Index first = 0;
  Eigen::Index count = 0;
  // Degrees of freedom if no cell were empty: Σ Π(levels − 1) over the term's own effects, those in no margin of it that
  // is in the model. Equal to `count` unless the term stands without its margins.
  Eigen::Index nominal_df = 0;
};

// Orthonormal contrasts of `levels` levels: [levels, levels − 1], each column sums to zero.
Eigen::MatrixXd HelmertContrasts(Eigen::Index levels);

class ModelMatrix {
 public:
  // `terms` hold indices into DataTable::factors; all of them must be among cells.factors. `cells` must outlive this.
  ModelMatrix(const CellTable& cells, std::vector<ModelTerm> terms);

  const std::vector<ModelTerm>& terms() const { return terms_; }
  const std::vector<TermColumns>& columns() const { return columns_; }  // per term; column 0 is the intercept
  Eigen::Index column_count() const { return column_count_; }

  // Rows `begin` … `begin + count − 1` of X, unweighted: [count, column_count()].
  Eigen::MatrixXd Rows(Eigen::Index begin, Eigen::Index count) const;
  // The row for one combination of level positions, given in the order of cells.factors; kAveraged averages over all
  // levels of that factor with equal weights (the row of an estimated marginal mean).
  static constexpr int32_t kAveraged = -1;
  Eigen::RowVectorXd Row(const std::vector<int32_t>& level_positions) const;

 private:
  struct FactorCoding {
    size_t position = 0;     // in cells.factors
    Eigen::MatrixXd basis;   // [levels, columns]
    Eigen::RowVectorXd average;  // mean of its rows
  };

  const CellTable& cells_;
  std::vector<ModelTerm> terms_;
  std::vector<TermColumns> columns_;
  std::vector<std::vector<FactorCoding>> codings_;
  Eigen::Index column_count_ = 1;
};

// R and Qᵀy of the cells' rows weighted by √n: all least-squares fits of subsets of the columns can be done on these
// few rows, as Q is orthogonal. `residual_sum_sq` is what no column explains (without the within-cell part).
struct Reduced {
  Eigen::MatrixXd r;   // [m, column_count], m ≤ column_count; upper triangular
  Eigen::VectorXd qty;  // [m]
  double lack_of_fit_sum_sq = 0;
  // Norms of the weighted columns, the yardstick of the rank tolerance.
  Eigen::VectorXd column_norms;
};

// Householder QR in row blocks, so that memory stays small. InvalidArgument if there are more than 4000 columns.
absl::StatusOr<Reduced> ReduceModel(const ModelMatrix& model, const CellTable& cells);

}  // namespace loupe::analysis
