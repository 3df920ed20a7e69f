// From a sweep's spec to its cells and trials: a pure function, the same on the submitter's machine and in the
// coordinator.
//
//   factors × what is legal for the method − exclusions  →  cells (ordered)  →  trials (cell × replicate)
//
// With methods: the union of such designs, one for each entry, in their order. Factors inside an entry are nested in
// the factor "method": the cells of other entries do not have them.
//
// Cells are numbered in the order of the factors, the last factor fastest. Trials are numbered replicate by replicate
// (trial = replicate · cells + cell), so that a sweep that is stopped early leaves complete blocks behind.
// The numbering is stored: it must not change for a given canonical spec.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/settings/settings.h"
#include "coordinator/plan/sweep_spec.h"

namespace loupe::coordinator::plan {

// Limits of one sweep. They bound the work and memory that a request can cause (8 bytes per cell are kept).
inline constexpr int64_t kMaxTrialsPerSweep = 1'000'000;
inline constexpr int64_t kMaxCandidateCells = 16'000'000;
inline constexpr size_t kMaxFactors = 32;  // of the sweep, and of each method
inline constexpr size_t kMaxMethods = 100;
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
  static absl::StatusOr<Plan> Create(const SweepSpec& spec);

  // The canonical spec. Stored as such: Create(spec()) gives the same plan.
  const SweepSpec& spec() const { return spec_; }
  // All of them: "method" first where methods are compared, then each entry's own (SweepFactor::within), then the
  // spec's.
  const std::vector<SweepFactor>& factors() const { return factors_; }

  int64_t cell_count() const { return static_cast<int64_t>(cell_codes_.size()); }
  int64_t trial_count() const { return cell_count() * spec_.replicates; }

  // Precondition: 0 ≤ trial < trial_count().
  TrialPlace Place(int64_t trial) const;
  // Precondition: both in range. The inverse of Place.
  int64_t TrialIndex(int64_t cell, int32_t replicate) const;

  // Which level factor number `factor` has in `cell`; kAbsent where the factor belongs to another method than the cell.
  // Preconditions: both in range.
  size_t LevelIndex(int64_t cell, size_t factor) const;
  // As an analysis' missing level when converted to int32_t: -1.
  static constexpr size_t kAbsent = static_cast<size_t>(-1);
  // That level's name; empty where it is absent.
  std::string_view Level(int64_t cell, size_t factor) const;
  // The cell as people see it: the factor's name -> level, for the factors that the cell has.
  std::map<std::string, std::string> CellLevels(int64_t cell) const;
  // The same by the names that cell patterns use: what alone selects this cell.
  CellPattern PatternOf(int64_t cell) const;
  // The name under which factor number `factor` stands in CellLevels and in reports: the last part of its key; the full
  // key where two keys share that part; with its method ("lora.rank") where several methods have the factor.
  const std::string& FactorName(size_t factor) const { return names_[factor]; }
  // Every setting of the cell's trials, with the spec's defaults and none of this program's. Cannot fail: Create has
  // checked every kind of cell.
  settings::Settings CellSettings(int64_t cell) const;

  // The values that the file gives a setting, in all cells together: fixed, as levels, or set by levels.
  std::vector<std::string> ValuesOf(const std::string& key) const;

  // Sentences for the submitter: levels that no legal pair uses, pairs left out, and the like.
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  Plan() = default;

  // One design of the union: its factors but for "method", slowest first, and the numbers of its combinations.
  struct SubDesign {
    std::vector<size_t> factors;
    std::vector<uint64_t> strides;
    uint64_t first_code = 0;
  };
  const SubDesign& DesignOf(int64_t cell) const;

  SweepSpec spec_;
  std::vector<SweepFactor> factors_;
  std::vector<std::string> names_, ids_;
  std::vector<SubDesign> designs_;
  // The factors on whose levels it depends which other settings are meaningful or needed, and for each combination of
  // their levels in the plan the complete settings of one cell. Other cells of that kind differ in their factors'
  // levels alone.
  std::vector<size_t> condition_factors_;
  std::map<std::vector<uint32_t>, settings::Settings> settings_of_kind_;
  // Number of each cell, in order: its design's first code + Σ level · stride.
  std::vector<uint64_t> cell_codes_;
  std::vector<std::string> notes_;
};

}  // namespace loupe::coordinator::plan
