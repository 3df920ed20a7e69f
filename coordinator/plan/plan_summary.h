// What a plan can answer before a GPU hour is spent: degrees of freedom, what is confounded with what, and the
// residual.
//
// The model is fitted nowhere: ranks of the cells' design matrix say all of it. A term's degrees of freedom are those
// of its Type II test, so that the summary promises exactly what the report will show when every trial succeeds.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/plan/plan.h"

namespace loupe::coordinator::plan {

struct TermOutlook {
  std::string term;        // "input", "input:output"
  std::string within;      // of a term nested in "method": the entry that has it ("lora"); else empty
  int64_t levels = 0;      // combinations of levels that occur in the plan
  int64_t nominal_df = 0;  // product of (levels − 1)
  int64_t df = 0;          // left after every term that does not contain it
  int64_t aliased_df() const { return nominal_df - df; }
  // As tables call it, here as in reports: "rank in lora".
  std::string title() const;
  std::string note;  // sentences: what is lost, and to which terms
  // Terms of one factor: its pairs of levels as the term's F test sees them.
  int64_t pairs = 0;
  std::vector<std::pair<std::string, std::string>> not_estimable;
  // The estimable pair that is hardest to tell apart, and the variance of its difference in units of σ² when every
  // trial gives a result; names empty and NaN where there is none.
  std::pair<std::string, std::string> hardest_pair;
  double hardest_variance = std::numeric_limits<double>::quiet_NaN();
  bool pairs_differ = false;  // whether some estimable pair is easier
};

struct PlanOutlook {
  std::vector<TermOutlook> terms;
  // Whether `terms` and `residual_df` are filled: false where the design matrix is too large to factor in a few
  // seconds.
  bool has_terms = false;
  // Trials − rank of the model − blocks: below 1 there is no F test.
  int64_t residual_df = 0;
  int64_t block_df = 0;            // replicates − 1
  std::vector<std::string> notes;  // the plan's notes first
};

// `formula` as in analysis/stats/model_formula.h with the factors' report names; empty means the main effects.
// INVALID_ARGUMENT: a bad formula.
absl::StatusOr<PlanOutlook> Outlook(const Plan& plan, std::string_view formula = "");

}  // namespace loupe::coordinator::plan
