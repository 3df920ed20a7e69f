// What stands behind the F table: adjusted means, comparisons, which cells may be the best, and whether the model's
// assumptions hold. Every part may be missing; then `reason` in that part says why.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/report/baseline_contrasts.h"
#include "analysis/report/cell_ranking.h"
#include "analysis/stats/anova.h"
#include "analysis/stats/assumptions.h"
#include "analysis/stats/comparisons.h"
#include "analysis/stats/data_table.h"
#include "analysis/stats/importance.h"
#include "analysis/stats/level_means.h"
#include "analysis/stats/marginal_means.h"
#include "analysis/stats/mixed_model.h"
#include "analysis/stats/permutation_test.h"
#include "analysis/stats/residuals.h"

namespace loupe::analysis {

// A factor's means as the model predicts them, averaged over the cells that occur with each level, and all differences.
struct FactorComparison {
  std::string factor;
  MarginalMeans means;
  std::vector<Comparison> pairs;  // empty above 12 levels: nobody reads 66 differences
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
  CellRanking ranking;
  std::string assumptions_reason;
  AssumptionReport assumptions;
  double residual_sd = 0;
  std::vector<ResidualRow> residuals;  // row order
  HalfNormal half_normal;
  std::string importance_reason;  // why there is none; empty when there is
  Importance importance;          // functional ANOVA shares of the cell factors
  bool has_permutation = false;   // only for small samples, where it may differ from the F test's p
  PermutationResult permutation;
  bool has_baseline = false;    // only where the reader names one
  std::string baseline_reason;  // why there are no contrasts though a baseline was named
  BaselineContrasts baseline;
  bool has_mixed_model = false;  // only with a block
  MixedModel mixed_model;
};

// `options` are those the F table was fitted with; `cell_factors` and `cells` as in FactorialAnalysis; `baseline` names
// the cell to contrast with, or is empty. InvalidArgument when the model itself cannot be fitted, or for a baseline
// that is no cell of these factors.
absl::StatusOr<ModelDetails> ComputeModelDetails(const DataTable& data, const AnovaOptions& options,
                                                 const std::vector<std::string>& cell_factors,
                                                 const std::vector<CellMean>& cells, const NamedCell& baseline,
                                                 bool smaller_is_better);

}  // namespace loupe::analysis
