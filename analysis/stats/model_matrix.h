// Columns of a linear model on cells, and the triangular factor that all sums of squares are read from.
//
// Coding: sum-to-zero, in the orthonormal (Helmert) basis of that space; any basis of it gives the same sums of
// squares, and this one makes balanced designs exactly orthogonal. In a term T a factor f is coded by contrasts when T
// without f is in the model too (the intercept counts), and by one indicator per level when it is not: 'a:b' without a
// and b then stands for all cell means (Wilkinson & Rogers 1973; the rule R follows). A nested factor has contrasts of
// its own levels, and zeros where it does not exist; the factor that it is nested in has no columns in its terms.
#pragma once

#include <vector>

#include "Eigen/Core"
#include "absl/status/statusor.h"
#include "analysis/stats/cell_table.h"
#include "analysis/stats/model_formula.h"

namespace loupe::analysis::stats {

struct TermColumns {
  Eigen::Index first = 0;
  Eigen::Index count = 0;
  // Degrees of freedom if no cell were empty: Σ Π(levels − 1) over the term's own effects, those in no margin of it
  // that is in the model. Equal to `count` unless the term stands without its margins.
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
  // The columns of some terms alone, side by side, into `out`.
  void FillTerms(const std::vector<size_t>& terms, const std::vector<int32_t>& level_positions, double* out) const;

 private:
  struct FactorCoding {
    size_t position = 0;  // in cells.factors
    Eigen::Index levels = 0;
    int32_t absent = kAveraged;  // the level at which a nested factor does not exist; kAveraged: there is none
    bool by_contrasts = true;    // else one indicator per level
    // Contrasts are scaled to unit mean square, so that columns of deep interactions keep the size of the others.
    std::vector<double> scale;  // per contrast j: √levels/√((j + 1)(j + 2))
    Eigen::Index columns() const { return by_contrasts ? levels - 1 : levels; }
    void Fill(int32_t level, double* out) const;  // the row of one level, or the mean of all rows for kAveraged
  };

  const CellTable& cells_;
  std::vector<ModelTerm> terms_;
  std::vector<TermColumns> columns_;
  std::vector<std::vector<FactorCoding>> codings_;
  Eigen::Index column_count_ = 1;
};

}  // namespace loupe::analysis::stats
