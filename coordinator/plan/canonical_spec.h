// The checks of a sweep spec that need no cells, and its canonical form. Plan::Create's first half.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/error_details.h"
#include "common/positions.h"
#include "coordinator/plan/sweep_spec.h"

namespace loupe::coordinator {

inline constexpr std::string_view kInputKey = "method.input";
inline constexpr std::string_view kOutputKey = "method.output";

struct CanonicalSpec {
  // Full keys and canonical values wherever they could be made; what could not is left out.
  SweepSpec spec;
  // One per wrong field, in the order of the spec; FieldViolation::field is its path in the proto.
  std::vector<FieldViolation> violations;
  // Sentences about what is legal but may not be meant.
  std::vector<std::string> notes;
};

CanonicalSpec CanonicaliseSpec(const SweepSpec& spec);

// Index of the factor that varies `key`, or nullopt.
std::optional<size_t> FindFactor(const SweepSpec& spec, std::string_view key);

// Why (input, output) is no legal pair, and what is: "… is not legal: …; legal outputs of CA_out are FFN_in,
// Trans_out". Precondition: the pair is not legal.
std::string WhyIllegal(Position input, Position output);

}  // namespace loupe::coordinator
