// Which cells to run when not all can be: candidates, model, and how good a selection is, before any response exists.
//
// D-efficiency of a selection S of N cells for a model with p estimable parameters, relative to running every candidate
// once: (|X_SᵀX_S/N| / |XᵀX/C|)^(1/p). 1 means that each trial tells as much as one of the full design; above 1 is
// possible when some candidates tell less than others.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "Eigen/Core"
#include "absl/status/statusor.h"
#include "analysis/stats/model_formula.h"

namespace loupe::analysis::stats {

struct DesignFactor {
  std::string name;
  std::vector<std::string> levels;
};

// The cells that may be run: legal ones only.
struct Candidates {
  std::vector<DesignFactor> factors;
  std::vector<std::vector<int32_t>> cells;  // per cell: one level index per factor; no cell twice
};

// Candidate rows of a model in an orthonormal basis of what the candidates can estimate: [C, p] with XᵀX = C·I.
class DesignModel {
 public:
  // `formula` as in model_formula.h; empty: all main effects. InvalidArgument: bad formula, a level index out of range,
  // a repeated cell, a factor with one level, no candidates.
  static absl::StatusOr<DesignModel> Create(const Candidates& candidates, std::string_view formula);

  const Eigen::MatrixXd& rows() const { return rows_; }
  Eigen::Index parameters() const { return rows_.cols(); }
  const std::vector<std::string>& term_names() const { return term_names_; }
  // Columns of each term in the untransformed coding, for ranks and aliases: [C, df].
  const std::vector<Eigen::MatrixXd>& term_columns() const { return term_columns_; }
  // All two-factor interactions that are not in the model.
  const std::vector<std::string>& omitted_names() const { return omitted_names_; }
  const std::vector<Eigen::MatrixXd>& omitted_columns() const { return omitted_columns_; }

 private:
  Eigen::MatrixXd rows_;
  std::vector<std::string> term_names_, omitted_names_;
  std::vector<Eigen::MatrixXd> term_columns_, omitted_columns_;
};

// What a selection can and cannot tell.
struct DesignTerm {
  std::string term;
  double df = 0;          // tested after all other terms
  double nominal_df = 0;  // on all candidates
};
struct AliasEntry {
  std::string omitted;  // an interaction that is not in the model
  std::string term;     // a term that it leaks into
  double share = 0;     // of the omitted term's variation that lies along `term`: 0 clear, 1 wholly aliased
};
struct DesignQuality {
  double d_efficiency = 0;  // 0 when the selection cannot estimate the model
  double residual_df = 0;
  std::vector<DesignTerm> terms;
  std::vector<AliasEntry> aliases;  // shares above 0.01, largest first
};
// `selected`: indices of candidates, repeats allowed.
DesignQuality AssessDesign(const DesignModel& model, const std::vector<size_t>& selected);

}  // namespace loupe::analysis::stats
