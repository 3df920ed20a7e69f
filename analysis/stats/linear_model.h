// The fitted linear model behind an ANOVA table: coefficients, predictions and any estimable combination of them.
//
// Law: a combination Lβ that the data do not determine (L outside the row space of X) is never given a value.
// Immutable after Fit; safe to read from many threads.
#pragma once

#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "Eigen/Core"
#include "absl/status/statusor.h"
#include "analysis/stats/anova.h"
#include "analysis/stats/cell_table.h"
#include "analysis/stats/data_table.h"
#include "analysis/stats/model_matrix.h"
#include "analysis/stats/model_reduction.h"
#include "analysis/stats/reference_grid.h"

namespace loupe::analysis::stats {

struct Estimate {
  bool estimable = false;
  double value = 0;      // NaN when not estimable
  double deviation = 0;  // value less the data's own centre: differences of these keep their digits under any offset
  double std_error = 0;  // σ̂·√(L(XᵀX)⁻Lᵀ)
};

// Many combinations L_i β taken apart, so that every weighted sum of them is had without forming its L again: Σ w_i L_i
// has the value Σ w_i deviation_i, the standard error residual_sd()·‖Σ w_i white_i‖, and is estimable where Σ w_i gap_i
// is 0.
struct CombinationParts {
  Eigen::VectorXd deviation;  // [k] about the data's centre; meaningful for estimable sums only
  Eigen::MatrixXd white;      // [rank, k]
  Eigen::MatrixXd gap;        // [directions that nothing determines, k]: what lies outside the row space of X
  Eigen::VectorXd intercept;  // [k] each combination's own entry for the intercept
  Eigen::VectorXd length;     // [k] ‖L_i‖, the yardstick of `gap`
};

class LinearModel {
 public:
  // Fits options.formula (+ the block) to `data`; ss_type and confidence are not used. Errors as FitAnova's.
  static absl::StatusOr<std::unique_ptr<LinearModel>> Fit(const DataTable& data, const AnovaOptions& options);

  const DataTable& data() const { return *data_; }
  const CellTable& cells() const { return cells_; }
  const ModelMatrix& matrix() const { return *matrix_; }
  bool has_block() const { return has_block_; }  // the block is then terms()[0]
  const std::string& formula() const { return formula_; }
  const SampleAccount& sample() const { return cells_.sample; }
  Eigen::Index rank() const { return reduction_->rank(); }
  double residual_df() const { return residual_df_; }
  // True where the residuals are no more than rounding: there is no error, and residual_sd() is 0.
  bool reproduces_response() const { return scaled_residual_sum_sq_ == 0; }
  // Squares may be beyond a double where residual_sd(), in the response's unit, is not.
  WideNumber residual_sum_sq() const { return cells_.unit.UpSquared(scaled_residual_sum_sq_); }
  WideNumber residual_mean_sq() const { return cells_.unit.UpSquared(scaled_residual_sum_sq_ / residual_df_); }
  double residual_sd() const { return cells_.unit.Up(scaled_residual_sd()); }
  double scaled_residual_sd() const { return std::sqrt(scaled_residual_sum_sq_ / residual_df_); }  // in cells().unit

  // What the model's columns leave of another response, without its spread within cells: `cell_means` about its grand
  // mean.
  double LackOfFit(const Eigen::VectorXd& cell_means) const;

  // `combination`: [column_count], in the model matrix's coding. Values are about 0, not about the centre: a
  // combination whose intercept entry is 1 gets the response's own level.
  Estimate Evaluate(const Eigen::RowVectorXd& combination) const;

  // The combination of a mean: see reference_grid.h.
  std::optional<Eigen::RowVectorXd> MeanRow(const std::vector<int32_t>& at) const { return grid_->Row(at); }

  CombinationParts Decompose(const std::vector<Eigen::RowVectorXd>& combinations) const;
  // The sum of combinations with these weights; `parts` are this model's.
  Estimate Combine(const CombinationParts& parts, const Eigen::VectorXd& weights) const;
  // Whether L_i − L_j lies in the row space of X.
  static bool IsEstimable(const CombinationParts& parts, Eigen::Index i, Eigen::Index j);

  // Covariances of the combinations divided by σ²: [k, k]. Entry differences such as G_ii + G_jj − 2G_ij are meaningful
  // for every estimable difference, even where the combinations themselves are not estimable.
  Eigen::MatrixXd UnscaledCovariance(const std::vector<Eigen::RowVectorXd>& combinations) const;

  // Fitted value of a cell about the centre, in cells().unit.
  double ScaledFit(size_t cell) const { return fitted_(static_cast<Eigen::Index>(cell)); }
  // Per cell, the leverage of one of its observations (x(XᵀX)⁻xᵀ).
  std::vector<double> Leverages() const;
  // Cell of each row of the table; −1 for rows that are not used.
  const std::vector<int32_t>& cell_of_row() const { return cells_.cell_of_row; }

 private:
  LinearModel() = default;
  template <typename Body>
  void ForEachCell(const Body& body) const;

  const DataTable* data_ = nullptr;
  CellTable cells_;
  std::unique_ptr<ModelMatrix> matrix_;
  std::unique_ptr<ReferenceGrid> grid_;
  bool has_block_ = false;
  std::string formula_;
  // The terms inside the reduction's set S are held as a mean γ per combination of S, the others by their own columns:
  // ŷ = γ_g + x_B β, where γ = ȳ_g − x̄_B,g β.
  std::unique_ptr<ModelReduction> reduction_;
  std::vector<Eigen::Index> kept_;     // independent outside columns
  std::vector<Eigen::Index> dropped_;  // dependent ones
  Eigen::MatrixXd r_;                  // [kept, kept], upper triangular
  Eigen::MatrixXd dependence_;         // within groups, dropped column j = X_kept · dependence_.col(j)
  Eigen::VectorXd coefficients_;       // of the kept columns, scaled
  Eigen::VectorXd group_effects_;      // γ, scaled
  double residual_df_ = 0;
  double scaled_residual_sum_sq_ = 0;
  Eigen::VectorXd fitted_;
  Eigen::MatrixXd outside_rows_;  // [kept, cells], where that is small: kept outside columns of each cell
};

}  // namespace loupe::analysis::stats
