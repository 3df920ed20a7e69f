// How factors are called: in tables, in cell patterns, and in an entry of the methods.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/plan/sweep_spec.h"

namespace loupe::coordinator::plan {

inline constexpr std::string_view kInputKey = "method.input";
inline constexpr std::string_view kOutputKey = "method.output";
inline constexpr std::string_view kKindKey = "method.kind";
inline constexpr std::string_view kMethodSection = "method.";
// The factor whose levels are the entries of SweepSpec::methods.
inline constexpr std::string_view kMethodFactor = "method";

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

}  // namespace loupe::coordinator::plan
