// Functional ANOVA importance: which share of the response's variance over the design space is due to each factor alone
// and to each pair of factors beyond the two alone (Hutter, Hoos & Leyton-Brown 2014, ICML; what Optuna and SMAC
// report).
//
// A random forest of regression trees is grown on the trials; in each tree the mean over all combinations of the other
// factors' levels (a marginal) is exact, a leaf being a product of level sets:
//   V = Var(tree over the space),  share(a) = Var_a(marginal of a)/V,  share(a, b) = Var_ab(marginal)/V − share(a) −
//   share(b).
// Shares are averages over trees. All level combinations count the same, also those that cannot be run: where only some
// are legal (position pairs) the forest extrapolates there, and the shares of those factors lean on it; the ANOVA table
// does not.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/stats/data_table.h"

namespace loupe::analysis::stats {

struct ImportanceOptions {
  std::vector<std::string> factors;  // empty: all of the table's
  int trees = 64;
  bool bootstrap = true;  // each tree sees a resample of the rows; off: all trees see all rows
  int smallest_leaf = 1;  // rows
  uint64_t seed = 1;
  bool include_stopped_early = false;
};

struct ImportanceShare {
  std::vector<std::string> factors;  // one, or two
  double share = 0;                  // of the forest's variance, 0 … 1
  double spread = 0;                 // standard deviation over trees
};

struct Importance {
  std::vector<ImportanceShare> shares;  // singles and pairs, largest first
  double higher_order = 0;              // what singles and pairs leave over
  int64_t rows = 0;
};

// InvalidArgument: unknown factor, fewer than two usable rows, constant response, more than 16 factors.
absl::StatusOr<Importance> ComputeImportance(const DataTable& data, const ImportanceOptions& options);

}  // namespace loupe::analysis::stats
