// What stands behind the F table: adjusted means, comparisons, which cells may be the best, and whether the model's
// assumptions hold. Every part may be missing; then `reason` in that part says why.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/report/baseline_contrasts.h"
#include "analysis/report/cell_ranking.h"
#include "analysis/report/method_comparison.h"
#include "analysis/stats/anova.h"
#include "analysis/stats/assumptions.h"
#include "analysis/stats/comparisons.h"
#include "analysis/stats/contrasts.h"
#include "analysis/stats/data_table.h"
#include "analysis/stats/importance.h"
#include "analysis/stats/level_means.h"
#include "analysis/stats/marginal_means.h"
#include "analysis/stats/mixed_model.h"
#include "analysis/stats/permutation_test.h"
#include "analysis/stats/residuals.h"

namespace loupe::analysis::report {

// A factor's means as the model predicts them, the other factors' levels averaged with equal weights, and all
// differences.
struct FactorComparison {
  std::string factor;
  stats::MarginalMeans means;
  std::string pairs_reason;  // why there are none; empty when there are
  std::vector<stats::Comparison> pairs;
};

// What the reader asks beyond the factors' own means. Empty: nothing.
struct DetailQuestions {
  NamedCell baseline;                       // the cell that all others are contrasted with
  std::vector<std::string> simple_effects;  // "input | output"; see contrasts.h
  std::vector<std::string> contrasts;       // "[input=SA_in] - [input=CA_in]"; see contrast_formula.h
  MethodQuestion methods;                   // of a sweep over methods
};

// Effects of single degrees of freedom, each after those before it (orthogonal, so that under no effect they are
// independent with one variance), against half-normal quantiles (Daniel 1959, Technometrics 1:311).
struct HalfNormalEffect {
  std::string term;
  double size = 0;      // |effect| in the response's units: √(sum of squares / n)
  double quantile = 0;  // Φ⁻¹(½ + ½(rank − ½)/m)
};
struct HalfNormal {
  std::string reason;
  std::string formula;
  std::vector<HalfNormalEffect> effects;  // ascending by size
  double pseudo_std_error = 0;            // Lenth (1989), Technometrics 31:469
  double margin_of_error = 0;             // t(0.975, m/3) · pseudo_std_error: beyond it an effect stands out
};

struct ModelDetails {
  std::vector<FactorComparison> comparisons;
  std::vector<stats::SimpleEffects> simple_effects;  // of the model's interactions of two factors, then as asked
  std::vector<stats::Contrast> contrasts;            // as asked
  CellRanking ranking;
  std::string assumptions_reason;
  stats::AssumptionReport assumptions;
  double residual_sd = 0;
  std::vector<stats::ResidualRow> residuals;  // row order
  HalfNormal half_normal;
  std::string importance_reason;  // why there is none; empty when there is
  stats::Importance importance;   // functional ANOVA shares of the cell factors
  bool has_permutation = false;   // only for small samples, where it may differ from the F test's p
  stats::PermutationResult permutation;
  bool has_baseline = false;    // only where the reader names one
  std::string baseline_reason;  // why there are no contrasts though a baseline was named
  BaselineContrasts baseline;
  std::optional<MethodComparison> methods;  // only where asked for, and at least two methods have results
  bool has_mixed_model = false;             // only with a block
  stats::MixedModel mixed_model;
};

// `options` are those the F table was fitted with; `cell_factors` and `cells` as in FactorialAnalysis.
// InvalidArgument when the model itself cannot be fitted, or for a question about what is not in it.
absl::StatusOr<ModelDetails> ComputeModelDetails(const stats::DataTable& data, const stats::AnovaOptions& options,
                                                 const std::vector<std::string>& cell_factors,
                                                 const std::vector<stats::CellMean>& cells,
                                                 const DetailQuestions& questions, bool smaller_is_better);

}  // namespace loupe::analysis::report
