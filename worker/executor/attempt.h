// The line between the gRPC side of a worker (agent) and its tensor side (executor): plain structs and two interfaces.
// Nothing here includes LibTorch, protobuf or gRPC.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/settings/settings.h"

namespace loupe::worker::executor {

// What to run: one attempt of one trial.
struct AttemptSpec {
  std::string trial;  // resource name
  int64_t epoch = 0;
  settings::Settings settings;
  uint64_t sweep_seed = 0;
  int64_t replicate = 0;
  // Factor's short name -> level; goes into the metadata of what the attempt writes.
  std::map<std::string, std::string> cell;
  // A folder of this attempt's own for files that it hands over; exists, is empty, and is removed afterwards.
  std::string scratch_folder;
  // A folder that outlives the attempt and is the trial's own on this machine: checkpoints live here, so that a later
  // attempt of the same trial goes on from them.
  std::string checkpoint_folder;
};

// kLost: a process that the attempt needed has gone; nothing is known against the trial.
enum class FailureClass { kRetryable, kUserError, kLost };

struct AttemptOutcome {
  enum class Kind { kSuccess, kFailure, kStopped };
  Kind kind = Kind::kFailure;

  // kSuccess
  std::map<std::string, double> scores;
  double train_seconds = 0;
  double total_seconds = 0;
  // Not 0: training was ended after this step, as FinishAfter asked.
  int64_t stopped_at_step = 0;
  std::map<std::string, std::string> provenance;

  // kFailure
  FailureClass failure_class = FailureClass::kRetryable;
  std::string failure_message;
};

enum class LogLevel { kInfo, kWarning, kError };

// How the attempt is heard of while it runs. Implementations are thread-safe and never block for long.
class AttemptObserver {
 public:
  virtual ~AttemptObserver() = default;

  // "prepare", "train", "sample", "score"; step counts within the phase.
  virtual void OnProgress(std::string_view phase, int64_t step, int64_t total_steps) = 0;
  virtual void OnMetric(std::string_view metric, int64_t step, double value) = 0;

  // How many attempts are trained together with it from now on, itself included.
  virtual void OnPack(int32_t /*attempts*/) {}

  // A line for the attempt's log, of any bytes. What is logged by spdlog while an AttemptLogScope is open comes here by
  // itself (attempt_log.h).
  virtual void OnLog(LogLevel /*level*/, std::string_view /*text*/) {}

  // Hands over a finished file under its artifact name ("samples.png"); blocks until it is stored. ABORTED means that
  // the lease is lost: stop without a result.
  virtual absl::Status OnArtifact(std::string_view name, std::string_view media_type, const std::string& path) = 0;

  // Asked between steps: true means stop now (cancelled, lease lost, or shutting down).
  virtual bool ShouldStop() const = 0;
  // Asked between steps: not 0 means train no further than to this step, or than now where it is past that, and score.
  virtual int64_t FinishAfter() const { return 0; }
};

// What an executor can run: the coordinator offers it no trial that needs more.
struct WorkerAbilities {
  // Of the table of settings: this program's own.
  int32_t settings_version = settings::kSettingsVersion;
  // Values of method.kind and of task.kind.
  std::vector<std::string> methods = {"adapter"};
  std::vector<std::string> tasks = {"dreambooth", "finetune"};
  // Classes of denoisers that it can load ("UNet2DConditionModel"). Empty: not said, any.
  std::vector<std::string> bases;
  // As DeviceDescription, one for each rank that a trial may have; empty: that one alone.
  std::vector<std::string> devices;
  // Of one device. 0: not said; the machine's, where the device is the CPU.
  int64_t device_memory_bytes = 0;
  // Values of train.precision for whose products the device has units of its own (runtime/device.h).
  std::vector<std::string> half_precisions;
};

// What a process has done since its start: it is shown to people, and decides nothing.
struct WorkDone {
  // Optimiser steps of all trials, and the time that they took.
  int64_t steps = 0;
  double step_seconds = 0;
  // Pictures drawn for scores, and the time that they took.
  int64_t pictures = 0;
  double picture_seconds = 0;
};

// An attempt with those who hear of it, which outlive its run.
struct HeardAttempt {
  AttemptSpec spec;
  AttemptObserver* observer = nullptr;
};

// Where the attempts of a pack come from, and where they go.
class PackFeed {
 public:
  virtual ~PackFeed() = default;
  // One that waits and fits those that it gave before (PackKey), or nothing now.
  virtual std::optional<HeardAttempt> Next() = 0;
  // The attempt's last word; its observer is not used afterwards.
  virtual void Finish(const HeardAttempt& attempt, AttemptOutcome outcome) = 0;
};

// Runs attempts. One Run or RunPack at a time per executor; the caller's thread does the work.
class Executor {
 public:
  virtual ~Executor() = default;

  // Never throws: every error becomes a kFailure outcome with a sentence for the user.
  virtual AttemptOutcome Run(const AttemptSpec& spec, AttemptObserver& observer) = 0;

  // Runs what the feed has, together, and asks it for more whenever there is room; returns when nothing is left. Each
  // attempt ends as it would by Run: nothing of its result depends on the others. Never throws. By default one after
  // another.
  virtual void RunPack(PackFeed& feed) {
    while (const std::optional<HeardAttempt> attempt = feed.Next()) {
      feed.Finish(*attempt, Run(attempt->spec, *attempt->observer));
    }
  }
  // How many attempts it runs together at most: what the coordinator is asked for. From any thread; it falls when
  // memory runs out.
  virtual int32_t PackSlots() const { return 1; }

  // The coordinator refused a result for the files that it was computed from: base and scorers are read anew before the
  // next attempt, whatever their times say. From any thread.
  virtual void ReadInputsAnew() {}

  // Why it can run nothing any more, whatever it is given; empty while it can. From any thread.
  virtual std::string WhyUnable() const { return {}; }

  // "cpu" or "cuda:0 NVIDIA H200".
  virtual std::string DeviceDescription() const = 0;

  // From any thread.
  virtual WorkDone Work() const { return {}; }

  // The same for the executor's whole life.
  virtual WorkerAbilities Abilities() const { return {}; }
};

}  // namespace loupe::worker::executor
