// Blocks as a random factor: y = Xβ + Zb + ε, b ~ N(0, σ_b²), ε ~ N(0, σ²) — randomised blocks and the mixed model.
//
// With θ = σ_b²/σ² and V = I + θZZᵀ, REML (Patterson & Thompson 1971, Biometrika 58:545) minimises over θ ≥ 0
//   log|V| + log|XᵀV⁻¹X| + (n − p)·log(RSS(θ)/(n − p)),   σ̂² = RSS/(n − p).
// V^(−½) only shrinks block means, so a fit is a QR of p + (number of blocks) rows. The expected-mean-squares estimate
// is Henderson's method 3 (1953, Biometrics 9:226): σ_b² = (MS(block | X) − MSE)/k, k = tr(ZᵀM_X Z)/df; for balanced
// complete blocks both agree where it is not negative. Tests of fixed terms: F of the whitened model; denominator
// degrees of freedom by containment as in nlme (Pinheiro & Bates 2000 §2.4.2): n − blocks − inner columns for terms
// that vary within blocks, blocks − 1 − outer columns for others.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/stats/anova.h"
#include "analysis/stats/data_table.h"
#include "analysis/stats/wide_number.h"

namespace loupe::analysis::stats {

enum class VarianceMethod { kReml, kExpectedMeanSquares };

struct MixedTerm {
  std::string term;
  double df = 0;
  double denominator_df = 0;
  double f = 0, p = 0;  // NaN when not estimable
  bool estimable = true;
  bool between_blocks = false;  // constant within every block: tested against the variation between blocks
};

struct MixedModel {
  std::string formula, block;
  VarianceMethod method = VarianceMethod::kReml;
  std::vector<MixedTerm> terms;       // without the block
  WideNumber residual_variance;       // σ²
  WideNumber block_variance;          // σ_b²; 0 at the boundary
  double intraclass_correlation = 0;  // σ_b²/(σ_b² + σ²)
  int64_t blocks = 0;
  SampleAccount sample;
  std::vector<std::string> warnings;  // whole sentences, e.g. a variance at its boundary, few blocks
};

// options.block must name a factor; types of sums of squares as in FitAnova. Errors as FitAnova's; InvalidArgument when
// there is no block or it has fewer than two levels.
absl::StatusOr<MixedModel> FitMixedModel(const DataTable& data, const AnovaOptions& options,
                                         VarianceMethod method = VarianceMethod::kReml);

}  // namespace loupe::analysis::stats
