// The checks of a sweep spec that need no cells, and its canonical form. Plan::Create's first half.
#pragma once

#include <string>
#include <vector>

#include "common/error_details.h"
#include "coordinator/plan/sweep_spec.h"

namespace loupe::coordinator::plan {

// Of one spec; more are not listed.
inline constexpr size_t kMaxSpecViolations = 100;

struct CanonicalSpec {
  // Full keys and canonical values wherever they could be made; what could not is left out.
  SweepSpec spec;
  // All factors of the plan: the spec's, or with methods "method", each entry's own, and the spec's. The first's levels
  // set what the entries fix.
  std::vector<SweepFactor> factors;
  // For each design of the union (one without methods): its factors but for "method", slowest first.
  std::vector<std::vector<size_t>> designs;
  // One per wrong field, in the order of the spec; FieldViolation::field is its path in the proto.
  std::vector<FieldViolation> violations;
  // Sentences about what is legal but may not be meant.
  std::vector<std::string> notes;
};

CanonicalSpec CanonicaliseSpec(const SweepSpec& spec);

}  // namespace loupe::coordinator::plan
