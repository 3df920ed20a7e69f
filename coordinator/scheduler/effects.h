// What the scheduler wants to be made durable, in order. The engine commits the effects of a batch of requests in one
// transaction and only then lets any answer out: nothing is acknowledged that a power cut could take back.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "coordinator/scheduler/early_stopping.h"
#include "coordinator/scheduler/model.h"

namespace loupe::coordinator::scheduler {

// JSON object of cell i, {"scale": "1", …}. Called once per cell, in order, while the transaction is open.
using CellLevelsJson = std::function<std::string(int64_t)>;

// A new sweep, with all its cells and (queued) trials; without `cell_levels_json` its row alone.
struct InsertSweep {
  SweepRecord sweep;
  CellLevelsJson cell_levels_json;
};

// Queued trials [from, to) of a sweep, with their cells where they are the cells' first.
struct InsertTrials {
  SweepKey sweep = 0;
  int64_t cells = 0;
  int64_t from = 0;
  int64_t to = 0;
  CellLevelsJson cell_levels_json;
};

struct UpdateSweep {
  SweepRecord sweep;  // state, state_reason, times and revision are written
};

// Removes about `most_rows` of the sweep's rows, its own row last. `report` is called while the transaction is open.
struct PurgeSweep {
  SweepKey sweep = 0;
  int64_t most_rows = std::numeric_limits<int64_t>::max();
  std::function<void(bool gone)> report;
};

// The sweep's job as it is now, in place of what was stored of one.
struct PutJob {
  SweepKey sweep = 0;
  SweepJob job;
};

struct EndJob {
  SweepKey sweep = 0;
};

// The trial's own row: its state and counters.
struct UpdateTrial {
  TrialKey trial;
  TrialState state = TrialState::kQueued;
  int64_t epoch = 0;
  int32_t failed_attempts = 0;
  int32_t worker_losses = 0;
  // Unset leaves the stored last failure as it is; a queued trial that was retried by hand clears it.
  std::optional<Failure> last_failure;
  bool clear_failure = false;
};

// Every queued trial of the sweep in [from, to) becomes cancelled.
struct CancelQueuedTrials {
  SweepKey sweep = 0;
  int64_t from = 0;
  int64_t to = std::numeric_limits<int64_t>::max();
};

struct StartAttempt {
  TrialKey trial;
  int64_t epoch = 0;
  // The lease token itself is kept nowhere: who reads the database cannot write under a lease.
  std::string token_sha256;
  std::string worker;
  std::string session;
  absl::Time start_time;
};

struct EndAttempt {
  TrialKey trial;
  int64_t epoch = 0;
  AttemptEnd outcome = AttemptEnd::kLost;
  std::optional<Failure> failure;
  absl::Time end_time;
};

// The one accepted result of a trial; the store refuses a second.
struct AcceptResult {
  TrialKey trial;
  int64_t epoch = 0;
  uint64_t digest = 0;
  Result result;
  absl::Time accept_time;
};

// What an input of the sweep was when the first result computed from it was accepted (Result::inputs): later ones must
// agree.
struct RecordInput {
  SweepKey sweep = 0;
  std::string name;
  std::string sha256;
};

// A result that came after its lease was lost: kept beside its attempt as evidence, counted nowhere. The store ignores
// it unless the token is the one that was handed out for that epoch.
struct KeepSupersededResult {
  TrialKey trial;
  int64_t epoch = 0;
  std::string token_hex;
  Result result;
};

struct AppendPoints {
  TrialKey trial;
  int64_t epoch = 0;
  std::vector<MetricPoint> points;
  int64_t sequence = 0;
};

// That a trial of a search has come to a rung (early_stopping.h).
struct NoteRung {
  SweepKey sweep = 0;
  RungNote note;
};

struct RecordArtifact {
  TrialKey trial;
  ArtifactRecord artifact;
};

struct UpsertWorker {
  WorkerRecord worker;
};

// How many trials a worker has brought to which end, in all, and when it was last heard of.
struct CountWorker {
  std::string worker;
  int64_t succeeded = 0;
  int64_t failed = 0;
  absl::Time last_seen;
};

// It has been away for too long (WorkerRules): its row goes, what it did stays with the trials.
struct ForgetWorker {
  std::string worker;
};

// Makes a request idempotent: a repeat with the same id finds this instead of acting again.
struct RecordRequest {
  std::string request_id;
  std::string method;
  // Digest of the request's content: the same id with another content is refused.
  std::string fingerprint;
  std::string sweep_id;
  int64_t answer = 0;
  absl::Time time;
};

using Effect =
    std::variant<InsertSweep, InsertTrials, UpdateSweep, PurgeSweep, PutJob, EndJob, UpdateTrial, CancelQueuedTrials,
                 StartAttempt, EndAttempt, AcceptResult, RecordInput, KeepSupersededResult, AppendPoints, NoteRung,
                 RecordArtifact, UpsertWorker, CountWorker, ForgetWorker, RecordRequest>;
using Effects = std::vector<Effect>;

}  // namespace loupe::coordinator::scheduler
