// The checks of a sweep spec that need no cells, and its canonical form. Plan::Create's first half.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/error_details.h"
#include "coordinator/plan/sweep_spec.h"

namespace loupe::coordinator {

inline constexpr std::string_view kInputKey = "method.input";
inline constexpr std::string_view kOutputKey = "method.output";
inline constexpr std::string_view kKindKey = "method.kind";
// The factor whose levels are the entries of SweepSpec::methods.
inline constexpr std::string_view kMethodFactor = "method";

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

// The full key of a setting as an entry of `methods` may call it: "rank" is method.rank there. Errors as
// ResolveSettingKey.
absl::StatusOr<std::string> ResolveMethodKey(std::string_view key);

// How tables call each factor: the last part of its key; the full key where two different keys share that part; with
// its method ("lora.rank") where several methods have the factor.
std::vector<std::string> FactorNames(const std::vector<SweepFactor>& factors);
// How cell patterns call each factor: its key, or its name where several methods have the factor.
std::vector<std::string> FactorIds(const std::vector<SweepFactor>& factors);

// Index of the factor that varies `key`, or nullopt.
std::optional<size_t> FindFactor(const std::vector<SweepFactor>& factors, std::string_view key);

}  // namespace loupe::coordinator
