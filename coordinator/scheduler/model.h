// The coordinator's nouns, as plain values: what the scheduler decides on, what its effects carry and what the store
// keeps. No protobuf, no SQL.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/random_source.h"
#include "common/trial_state.h"

namespace loupe::coordinator::scheduler {

// A sweep's number in the store: short, so that a million trials can carry it. Never reused while the sweep's rows
// exist.
using SweepKey = int64_t;

struct TrialKey {
  SweepKey sweep = 0;
  int64_t index = 0;
  auto operator<=>(const TrialKey&) const = default;
};

// Stored, and equal to loupe.v1's enums: do not renumber.
enum class SweepState {
  kActive = 1,
  kPaused = 2,
  kStopping = 3,
  kCompleted = 4,
  kStopped = 5,
  kCancelled = 6,
  // Shown and never stored: they follow from the sweep's job.
  kCreating = 7,
  kDeleting = 8
};
enum class FailureClass { kLostWorker = 1, kRetryable = 2, kUserError = 3 };
// How an attempt ended. Stored: do not renumber.
enum class AttemptEnd { kRunning = 0, kSucceeded = 1, kFailed = 2, kLost = 3, kStopped = 4 };

inline bool IsTerminal(SweepState state) {
  return state == SweepState::kCompleted || state == SweepState::kStopped || state == SweepState::kCancelled;
}

struct RetryLimits {
  // Attempts a trial may fail for its own reasons before it is kFailed.
  int32_t max_trial_attempts = 2;
  // Lost workers a trial may cause before it is kQuarantined.
  int32_t max_worker_losses = 3;
  // Wait before a failed trial is offered again; doubles with each failure, up to kMaxBackoff.
  absl::Duration backoff = absl::Seconds(1);
  // Failed trials after which the sweep is paused; 0 means no limit.
  int32_t max_failed_trials = 0;
};
inline constexpr absl::Duration kMaxBackoff = absl::Minutes(5);

// Work on all trials of a sweep. It is done in steps of bounded size between other requests, and goes on after a
// restart where its last durable step ended. Stored: do not renumber.
enum class JobKind { kCreate = 1, kRetry = 2, kStop = 3, kCancel = 4, kDelete = 5 };

struct SweepJob {
  JobKind kind = JobKind::kCreate;
  // The next trial to look at; a deletion has none.
  int64_t cursor = 0;
  // Of a retry: which ended trials, and of which cells, in a form that only its maker reads (empty: of all).
  std::set<TrialState> states;
  std::string cell_filter;
  // Whose it is: the jobs of different clients take turns.
  std::string client;
};

struct SweepRecord {
  SweepKey key = 0;
  std::string id;
  std::string uid;
  std::string display_name;
  // The specification as the service serialised it: opaque here.
  std::string spec;
  int64_t cells = 0;
  int32_t replicates = 0;
  // Seeds the order in which cells run.
  uint64_t seed = 0;
  int32_t priority = 0;
  RetryLimits limits;
  SweepState state = SweepState::kActive;
  // Why the coordinator paused it by itself; empty otherwise.
  std::string state_reason;
  absl::Time create_time;
  absl::Time update_time;
  std::optional<absl::Time> end_time;
  // Rises with every change of the sweep's own state: the etag.
  int64_t revision = 1;
  std::optional<SweepJob> job;

  int64_t trials() const { return cells * replicates; }
  bool has_job(JobKind kind) const { return job && job->kind == kind; }
  SweepState shown_state() const {
    if (has_job(JobKind::kCreate)) return SweepState::kCreating;
    return has_job(JobKind::kDelete) ? SweepState::kDeleting : state;
  }
};

// A trial's index counts replicate by replicate: all cells of replicate 0, then all of replicate 1, …
inline int64_t CellOf(const SweepRecord& sweep, int64_t index) { return index % sweep.cells; }
inline int32_t ReplicateOf(const SweepRecord& sweep, int64_t index) {
  return static_cast<int32_t>(index / sweep.cells);
}

struct TrialCounts {
  int64_t queued = 0;
  int64_t running = 0;
  int64_t succeeded = 0;
  int64_t failed = 0;
  int64_t cancelled = 0;
  int64_t quarantined = 0;

  int64_t total() const { return queued + running + succeeded + failed + cancelled + quarantined; }
  int64_t& of(TrialState state) {
    switch (state) {
      case TrialState::kQueued:
        return queued;
      case TrialState::kRunning:
        return running;
      case TrialState::kSucceeded:
        return succeeded;
      case TrialState::kFailed:
        return failed;
      case TrialState::kCancelled:
        return cancelled;
      case TrialState::kQuarantined:
        break;
    }
    return quarantined;
  }
  bool operator==(const TrialCounts&) const = default;
};

struct Failure {
  FailureClass failure_class = FailureClass::kRetryable;
  std::string message;
};

struct MetricPoint {
  std::string metric;
  int64_t step = 0;
  double value = 0;
};

// What a finished attempt brought. Scores are finite.
struct Result {
  std::map<std::string, double> scores;
  std::vector<std::string> artifacts;
  double train_seconds = 0;
  double total_seconds = 0;
  std::map<std::string, std::string> provenance;
  // What it was computed from, by setting and its value ("scorer configs/scorers/emoji-clip") -> SHA-256 of those
  // files.
  std::map<std::string, std::string> inputs;
  // Not 0: training was ended early, after this step.
  int64_t stopped_at_step = 0;
};

// What a trial asks of the worker that is to run it.
struct TrialNeeds {
  // Version of the table of settings (common/settings/settings.h); kSettingsVersion's successor where not even the
  // coordinator knows a setting.
  int32_t settings_version = 1;
  // Values of method.kind and task.kind. Empty: any will do.
  std::string method;
  std::string task;
  // That share the trial out.
  int32_t devices = 1;
  auto operator<=>(const TrialNeeds&) const = default;
};

// How trials of a search are ended early (early_stopping.h).
struct SearchRules {
  // The metric that they are compared by.
  std::string curve;
  bool smaller_is_better = true;
  int64_t reduction = 3;  // > 1
  int64_t min_steps = 1;  // > 0
};

// What is to be known of a sweep's plan to run its trials: what each needs, which is what its cell needs, which of them
// fit each other, and whether any may be ended early.
struct SweepNeeds {
  // At most 256, at least one; the same needs may stand here several times, for trials of different packs.
  std::vector<TrialNeeds> classes = {TrialNeeds{}};
  // By cell: place in `classes`. Empty: the first for all.
  std::vector<uint8_t> class_of_cell;
  // By class: trials of classes with one number can be trained together, as a pack; kAlone: only one at a time. Empty:
  // those of one class can.
  std::vector<int32_t> pack_of_class;
  // Nothing: a study, which ends none.
  std::optional<SearchRules> search;
  static constexpr int32_t kAlone = -1;

  size_t class_of(int64_t cell) const { return class_of_cell.empty() ? 0 : class_of_cell[static_cast<size_t>(cell)]; }
  int32_t pack_of(size_t of_class) const {
    return pack_of_class.empty() ? static_cast<int32_t>(of_class) : pack_of_class[of_class];
  }
};

// What a worker says it can run. As it stands: what programs could that do not say.
struct WorkerAbilities {
  int32_t settings_version = 1;
  std::set<std::string> methods = {"adapter"};
  std::set<std::string> tasks = {"dreambooth", "finetune"};
  // Classes of denoisers. Empty: any. No setting names a trial's yet: shown only.
  std::set<std::string> bases;
  std::vector<std::string> devices;
  int64_t device_memory_bytes = 0;
  // Precisions for whose products the device has units. Shown only.
  std::set<std::string> half_precisions;
  auto operator<=>(const WorkerAbilities&) const = default;
};

inline bool CanRun(const WorkerAbilities& worker, const TrialNeeds& trial) {
  return trial.settings_version <= worker.settings_version &&
         (trial.method.empty() || worker.methods.contains(trial.method)) &&
         (trial.task.empty() || worker.tasks.contains(trial.task)) &&
         trial.devices <= std::max<int32_t>(1, static_cast<int32_t>(worker.devices.size()));
}

struct WorkerDescription {
  std::string hostname;
  std::string device;
  std::string version;
  int64_t process_id = 0;
  int32_t threads = 0;
  int64_t memory_bytes = 0;
  // Not stored: a worker says it with every message.
  WorkerAbilities abilities;
  bool operator==(const WorkerDescription&) const = default;
};

struct WorkerRecord {
  std::string id;
  std::string session;
  // Sessions that a newer one has replaced, latest last; at most kRememberedSessions.
  std::vector<std::string> past_sessions;
  WorkerDescription description;
  int32_t slots = 1;
  // How many trials it may hold where they fit each other as a pack. Not stored: a worker says it with every message.
  int32_t pack_slots = 0;
  // An operator's wish, kept over restarts.
  bool draining = false;
  absl::Time first_seen;
  // Of its latest message; what is stored may be kSeenInterval older.
  absl::Time last_seen;
  int64_t succeeded = 0;
  int64_t failed = 0;
};
inline constexpr size_t kRememberedSessions = 16;

struct ArtifactRecord {
  std::string name;
  std::string media_type;
  int64_t size_bytes = 0;
  std::string sha256;
  int64_t epoch = 0;
};

}  // namespace loupe::coordinator::scheduler
