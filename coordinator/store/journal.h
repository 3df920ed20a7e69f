// What the coordinator's state is written to and comes back from after a restart. What people ask of it is
// store_reader.h's.
//
// Law: Commit is all or nothing, and durable (power loss included) when it returns OK. There is one accepted result per
// trial and one running attempt per trial, whatever the caller does: the schema enforces both.
// Thread law: one thread at a time (the engine's).
#pragma once

#include <cstdint>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/scheduler/effects.h"
#include "coordinator/scheduler/model.h"

namespace loupe::coordinator::store {

// A trial as the scheduler needs it after a restart.
struct TrialSeed {
  int64_t index = 0;
  TrialState state = TrialState::kQueued;
  int64_t epoch = 0;
  int32_t failed_attempts = 0;
  int32_t worker_losses = 0;
  uint64_t result_digest = 0;
};

// An attempt that was running when the coordinator stopped.
struct LiveAttempt {
  scheduler::TrialKey trial;
  int64_t epoch = 0;
  std::string token_sha256;
  std::string worker;
  std::string session;
  absl::Time start_time;
  int64_t point_sequence = 0;
  // Names of what it has handed over so far.
  std::set<std::string> artifacts;
};

// Receives the whole state, in this order: sweeps, each followed by its trials in index order (those that are there:
// none of a sweep that is being deleted, the first ones of one that is being created); then their inputs and rungs;
// then workers; then live attempts; then requests.
class RecoverySink {
 public:
  virtual ~RecoverySink() = default;
  virtual void OnSweep(scheduler::SweepRecord sweep) = 0;
  virtual void OnTrial(scheduler::SweepKey sweep, const TrialSeed& trial) = 0;
  virtual void OnInput(scheduler::RecordInput input) = 0;
  virtual void OnRung(const scheduler::NoteRung& rung) = 0;
  virtual void OnWorker(scheduler::WorkerRecord worker) = 0;
  virtual void OnLiveAttempt(LiveAttempt attempt) = 0;
  virtual void OnRequest(scheduler::RecordRequest request) = 0;
};

class Journal {
 public:
  virtual ~Journal() = default;

  // All effects, in order, in one transaction. RESOURCE_EXHAUSTED when the disk is full, UNAVAILABLE on an I/O error,
  // FAILED_PRECONDITION when the file is read-only, DATA_LOSS when it is damaged, ALREADY_EXISTS or INTERNAL when a
  // constraint refuses an effect. After an error nothing of `effects` is kept (after an I/O error in the commit itself
  // the outcome is unknown until Recover shows it).
  virtual absl::Status Commit(const scheduler::Effects& effects) = 0;

  // The whole state, from one snapshot.
  virtual absl::Status Recover(RecoverySink& sink) = 0;
};

}  // namespace loupe::coordinator::store
