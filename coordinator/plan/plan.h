// From a sweep's spec to its cells and trials: a pure function, the same on the submitter's machine and in the
// coordinator.
//
//   factors × legal position pairs − exclusions  →  cells (ordered)  →  trials (cell × replicate)
//
// Cells are numbered in the order of the factors, the last factor fastest. Trials are numbered replicate by replicate
// (trial = replicate · cells + cell), so that a sweep that is stopped early leaves complete blocks behind.
// The numbering is stored: it must not change for a given canonical spec.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/settings/settings.h"
#include "coordinator/plan/sweep_spec.h"

namespace loupe::coordinator {

// Limits of one sweep. They bound the work and memory that a request can cause (8 bytes per cell are kept).
inline constexpr int64_t kMaxTrialsPerSweep = 1'000'000;
inline constexpr int64_t kMaxCandidateCells = 16'000'000;
inline constexpr size_t kMaxFactors = 32;
inline constexpr size_t kMaxLevelsPerFactor = 100'000;
inline constexpr size_t kMaxPatterns = 1'000'000;
inline constexpr int32_t kMaxReplicates = 100'000;

struct TrialPlace {
  int64_t cell = 0;
  int32_t replicate = 0;
  bool operator==(const TrialPlace&) const = default;
};

// Value type; const access is thread-safe.
class Plan {
 public:
  // Checks everything and makes the spec canonical (full keys, canonical levels, position factors added). Idempotent: a
  // canonical spec comes back as it is. INVALID_ARGUMENT carries every violation found (common/error_details.h) with
  // the field's path in the proto ("spec.factors[1].levels[0]", "spec.settings[\"budget.steps\"]"); its message is the
  // first.
  static absl::StatusOr<Plan> Create(SweepSpec spec);

  // The canonical spec. Stored as such: Create(spec()) gives the same plan.
  const SweepSpec& spec() const { return spec_; }
  const std::vector<SweepFactor>& factors() const { return spec_.factors; }

  int64_t cell_count() const { return static_cast<int64_t>(cell_codes_.size()); }
  int64_t trial_count() const { return cell_count() * spec_.replicates; }

  // Precondition: 0 ≤ trial < trial_count().
  TrialPlace Place(int64_t trial) const;
  // Precondition: both in range. The inverse of Place.
  int64_t TrialIndex(int64_t cell, int32_t replicate) const;

  // Which level factor number `factor` has in `cell`. Preconditions: both in range.
  size_t LevelIndex(int64_t cell, size_t factor) const;
  // The cell as people see it: the factor's short name -> level; the full key where two factors share a short name.
  std::map<std::string, std::string> CellLevels(int64_t cell) const;
  // The name under which factor number `factor` stands in CellLevels and in reports.
  std::string FactorName(size_t factor) const;
  // Every setting of the cell's trials, with the spec's defaults and none of this program's. Cannot fail: Create has
  // checked every kind of cell.
  Settings CellSettings(int64_t cell) const;

  // Sentences for the submitter: levels that no legal pair uses, pairs left out, and the like.
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  Plan() = default;

  SweepSpec spec_;
  // The factors on whose levels it depends which other settings are meaningful or needed, and for each combination of
  // their levels in the plan the complete settings of one cell. Other cells of that kind differ in their factors'
  // levels alone.
  std::vector<size_t> condition_factors_;
  std::map<std::vector<uint32_t>, Settings> settings_of_kind_;
  // Mixed-radix number of each cell, in order: Σ level · stride_[factor].
  std::vector<uint64_t> cell_codes_;
  std::vector<uint64_t> strides_;
  std::vector<std::string> notes_;
};

}  // namespace loupe::coordinator
