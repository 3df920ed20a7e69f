// Which combinations of levels are cells.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_set>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/plan/sweep_spec.h"

namespace loupe::coordinator {

// A set of cell patterns, indexed by which factors they name, so that a lookup costs one hash per distinct set of
// factors and not one comparison per pattern.
class PatternSet {
 public:
  // `patterns` are canonical. A pattern with a level its factor does not have matches nothing. INVALID_ARGUMENT when
  // the patterns name more than kMaxShapes different sets of factors.
  static absl::StatusOr<PatternSet> Create(const std::vector<SweepFactor>& factors,
                                           const std::vector<CellPattern>& patterns);

  // `levels`: one level index per factor.
  bool Matches(const std::vector<uint32_t>& levels) const;

  static constexpr size_t kMaxShapes = 64;

 private:
  struct Shape {
    std::vector<size_t> factors;
    // Mixed-radix numbers over `factors` alone.
    std::unordered_set<uint64_t> codes;
  };
  std::vector<uint64_t> level_counts_;
  std::vector<Shape> shapes_;
};

// Whether the positions of a combination are a legal pair (and, where the spec lists pairs, one of those).
class PositionFilter {
 public:
  explicit PositionFilter(const SweepSpec& spec);

  bool Allows(const std::vector<uint32_t>& levels) const;

 private:
  // Neither position is given: nothing to check.
  bool off_ = false;
  std::optional<size_t> input_factor_, output_factor_;
  // [input level][output level]; a fixed position has one level.
  std::vector<std::vector<bool>> allowed_;
};

}  // namespace loupe::coordinator
