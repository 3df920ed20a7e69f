// What a sweep file says, as plain data: the input of Plan::Create. No protobuf; coordinator/plan_proto converts.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/settings/settings.h"

namespace loupe::coordinator::plan {

// What the sweep varies, and the levels it takes, in the order in which tables show them: one setting, or a name of its
// own whose levels set several settings together.
struct SweepFactor {
  // A key of common/settings/settings.h ("method.scale"); a short one ("scale") is accepted and made full by
  // Plan::Create. With `settings`, a name that is no setting's ("subject").
  std::string key;
  // The setting's values, or the names of what `settings` hold.
  std::vector<std::string> levels;
  // Empty, or for each level what it sets: key -> value.
  std::vector<std::map<std::string, std::string>> settings = {};
  // In Plan::factors(): the entry of `methods` in which alone the factor varies (it is nested in "method"); else empty.
  std::string within = {};
  bool operator==(const SweepFactor&) const = default;
};

// A partial cell: factor key -> level. It matches every cell that has all these levels.
using CellPattern = std::map<std::string, std::string>;

// One (input, output) pair of an adapter, by the names of common/positions.h.
struct PositionPairSpec {
  std::string input;
  std::string output;
  bool operator==(const PositionPairSpec&) const = default;
};

// One of the methods that a sweep compares: a design of its own, crossed with the sweep's factors.
struct MethodSpec {
  // The level of the factor "method"; empty in a spec as written means the kind.
  std::string label;
  // Fixed settings of this entry, method.kind among them.
  std::map<std::string, std::string> settings;
  // Nested in this entry: other entries' cells do not have them.
  std::vector<SweepFactor> factors;
  // As SweepSpec's, for the cells of this entry.
  std::vector<PositionPairSpec> positions;
  bool operator==(const MethodSpec&) const = default;
};

// 0 (or a zero duration) everywhere means the coordinator's default.
struct RetryPolicySpec {
  // Attempts a trial may fail for its own reasons before it is FAILED (default 2).
  int32_t max_trial_attempts = 0;
  // Lost workers a trial may cause before it is QUARANTINED (default 3).
  int32_t max_worker_losses = 0;
  // First wait before a failed trial is offered again; doubles each time (default 1 s).
  absl::Duration backoff = absl::ZeroDuration();
  // Failed trials after which the whole sweep is paused; 0 means no limit.
  int32_t max_failed_trials = 0;
  bool operator==(const RetryPolicySpec&) const = default;
};

// `mode: search`: trials that are seen to be worse than others are ended early
// (coordinator/scheduler/early_stopping.h).
struct SearchSpec {
  enum class Direction { kOfTheCurve = 0, kMinimize = 1, kMaximize = 2 };
  // What they are compared by: "loss", "validation_loss", or a score.
  std::string curve;
  Direction direction = Direction::kOfTheCurve;
  int32_t reduction = 3;
  int64_t min_steps = 0;
  bool operator==(const SearchSpec&) const = default;
};

struct SweepSpec {
  // For people; at most 200 bytes. Empty is allowed.
  std::string display_name;
  // Fixed settings by full key; what the factors vary is not among them.
  std::map<std::string, std::string> settings;
  // What the settings that neither these nor the factors give are taken to be. Version 0 in a spec as written: Plan::
  // Create takes this program's. A canonical spec has them, so that a stored sweep means the same under every program.
  settings::SettingDefaults defaults;
  // When not empty, the sweep is the union of these designs: its first factor is "method", each entry's own factors
  // come next, and every entry is crossed with `factors`.
  std::vector<MethodSpec> methods;
  // Ordered: the last one varies fastest from cell to cell.
  std::vector<SweepFactor> factors;
  // Cells that match any of these are left out.
  std::vector<CellPattern> exclusions;
  // When not empty, only cells that match at least one of these are planned: how a chosen subset of a design is
  // written.
  std::vector<CellPattern> selections;
  // When not empty, only these pairs are planned; factors for method.input and method.output are added where missing.
  std::vector<PositionPairSpec> positions;
  // Each cell runs this many times, with other random numbers each time (common/seed.h).
  int32_t replicates = 1;
  uint64_t seed = 0;
  // Higher runs first.
  int32_t priority = 0;
  RetryPolicySpec retry;
  // Nothing: `mode: study`, in which every trial has its whole budget.
  std::optional<SearchSpec> search;
  // The sweep file as submitted, for the record. Not interpreted.
  std::string source_text;
  bool operator==(const SweepSpec&) const = default;
};

}  // namespace loupe::coordinator::plan
