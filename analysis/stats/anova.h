// N-way analysis of variance with interactions on unbalanced data and empty cells.
//
// Law: a number is printed only where it has a meaning. A term that the data cannot separate from others has df 0, no
// F, `estimable == false`, and a note naming those others; a term that is partly separable is tested on what is left
// and the note says what was lost.
//
// Model: y = Xβ + ε, sum-to-zero contrasts, fitted by Householder QR on the cells' means weighted by √n (sufficient
// statistics: the within-cell sum of squares joins the residual), never by normal equations.
// Sums of squares (Langsrud 2003, Statistics and Computing 13:163; Fox 2016 §8.2):
//   Type I    each term after the ones written before it;
//   Type II   each term after all terms that do not contain it (principle of marginality);
//   Type III  each term after all others, including those that contain it; refused where empty cells make that
//             hypothesis depend on the coding (use II).
// A block enters as one additive fixed term, listed first, and every type adjusts the other terms for it; for random
// blocks see mixed_model.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/stats/data_table.h"
#include "analysis/stats/effect_size.h"
#include "analysis/stats/wide_number.h"

namespace loupe::analysis::stats {

enum class SumOfSquares { kType1 = 1, kType2 = 2, kType3 = 3 };

struct AnovaOptions {
  // Terms: names joined by '+', 'a:b' an interaction, 'a*b' = a + b + a:b, '(a+b+c)^2' all up to order 2, '-a:b' takes
  // one away. Names that are not plain words go in backquotes. Empty: the main effects of all factors but the block.
  std::string formula;
  SumOfSquares ss_type = SumOfSquares::kType2;
  std::string block;                   // factor whose additive effect every other term is adjusted for; empty: none
  double confidence = 0.95;            // of the effect-size intervals
  bool include_stopped_early = false;  // off: trials stopped early are counted, not mixed in
  // A factor with one level in the rows used cannot be tested. Off: an error says so. On: its terms are left out and a
  // warning says so (what a sweep's own report wants).
  bool drop_single_level_factors = false;
};

struct AnovaTerm {
  std::string term;  // "input", "input:output"
  bool is_block = false;
  std::string within;     // of a nested factor's term: the level of the other at which it exists ("lora"); else empty
  double nominal_df = 0;  // product of (levels − 1): what complete data would give
  double df = 0;          // what is tested here
  WideNumber sum_sq;
  WideNumber mean_sq;  // NaN when df is 0
  double f = 0;        // NaN when not estimable
  double p = 0;        // NaN when not estimable
  bool estimable = true;
  std::vector<std::string> aliased_with;  // terms that share the lost degrees of freedom
  std::string note;                       // whole sentences; empty when there is nothing to say
  EffectSize effect;                      // all NaN when not estimable
};

struct AnovaResidual {
  double df = 0;
  WideNumber sum_sq, mean_sq;  // 0 where the model reproduces every response: then there is no F
};

struct AnovaTable {
  std::string response;
  std::string formula;  // the terms as fitted, in order, written out: "input + output + input:output"
  std::string block;
  SumOfSquares ss_type = SumOfSquares::kType2;
  std::vector<AnovaTerm> terms;
  AnovaResidual residual;
  double pure_error_df = 0;  // within identical cells: 0 when no cell is replicated
  WideNumber pure_error_sum_sq;
  double total_df = 0;      // n − 1
  WideNumber total_sum_sq;  // about the mean
  double grand_mean = 0;
  double r_squared = 0;
  SampleAccount sample;
  double cells_possible = 0;  // product of the level counts of the model's factors (without the block)
  int64_t cells_observed = 0;
  std::vector<std::string> warnings;  // whole sentences
};

// Errors (InvalidArgument, one sentence with what to do): unknown factor or bad formula; no usable rows; a constant
// response; a factor with one level; no residual degrees of freedom (n = 1 per cell with a saturated model).
absl::StatusOr<AnovaTable> FitAnova(const DataTable& data, const AnovaOptions& options);

}  // namespace loupe::analysis::stats
