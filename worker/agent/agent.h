// The worker's side of the worker protocol: tells the coordinator what this process holds, does what the answer says,
// and gives up by itself what it can no longer prove to hold.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/random_source.h"
#include "common/trace/span_exporter.h"
#include "loupe/v1/worker.pb.h"
#include "worker/agent/attempt_runner.h"
#include "worker/agent/backoff.h"
#include "worker/agent/coordinator_client.h"
#include "worker/agent/held_attempt.h"
#include "worker/agent/telemetry.h"
#include "worker/executor/attempt.h"

namespace loupe::worker::agent {

struct AgentOptions {
  // "workers/gpu-3": the coordinator knows the process by it. A newer process of the same name supersedes this one.
  std::string worker;
  // What ListWorkers shows; the device is asked of the executor.
  std::string hostname;
  std::string version;
  int32_t threads = 0;
  int64_t memory_bytes = 0;
  // Checkpoints go to {data_folder}/checkpoints, scratch files to {scratch_folder}/{id}: its default is
  // {data_folder}/workers.
  std::string data_folder;
  std::string scratch_folder;

  // How long the coordinator may hold a call when there is nothing to do.
  absl::Duration idle_wait = absl::Seconds(30);
  // For an answer that is not held; a held one may take idle_wait more.
  absl::Duration call_timeout = absl::Seconds(10);
  absl::Duration upload_timeout = absl::Seconds(60);
  BackoffOptions backoff;
  // When leaving: how long to try to reach a coordinator that does not answer, to tell it.
  absl::Duration farewell = absl::Seconds(5);

  // When this process must have ended, by `clock`'s monotonic time: its job's time limit. Before that the worker leaves
  // by itself, so that nothing is killed in the middle.
  absl::Duration until = absl::InfiniteDuration();
  // So long before `until` what runs is stopped and handed back: a step, a checkpoint and an answer must fit.
  absl::Duration hand_back = absl::Seconds(30);
  // With less than this left before that nothing new is taken; or with less than this worker's longest trial so far,
  // where that is shorter. A trial in training can be handed back with what it has done; one that has only loaded its
  // base has done nothing.
  absl::Duration least_work = absl::Minutes(1);
  // It leaves after so long without a trial.
  absl::Duration until_idle = absl::InfiniteDuration();
};

// Owns the runner's thread; Run's caller is the synchronising thread. RequestDrain and RequestStop may be called from
// any thread, before or during Run.
class Agent {
 public:
  struct Deps {
    CoordinatorClient* client;  // none is owned; all outlive the agent
    executor::Executor* executor;
    const Clock* clock;
    RandomSource* random;
    // Where the spans of traced attempts go; null: there are none.
    trace::SpanExporter* spans = nullptr;
  };
  Agent(AgentOptions options, Deps deps);
  ~Agent();

  // Works until drained or stopped, or until its time is up: then OK, once the coordinator has acknowledged that
  // nothing is held any more (or did not answer for the farewell). A coordinator that does not answer is else tried
  // again for ever, with growing, jittered waits. FAILED_PRECONDITION when another process took this worker's name;
  // UNAUTHENTICATED or PERMISSION_DENIED when the token is refused; INVALID_ARGUMENT or UNIMPLEMENTED when the
  // coordinator does not understand this worker (another version): trying again would not help. UNAVAILABLE when the
  // executor can run nothing any more, after the same farewell as when drained.
  absl::Status Run();

  // Takes nothing new, finishes what runs, hands in the results, then Run returns.
  void RequestDrain();
  // Stops what runs after its current step (it has a checkpoint), says so, then Run returns.
  void RequestStop();

 private:
  v1::SynchronizeRequest MakeRequest();
  absl::Duration CallTimeout(const v1::SynchronizeRequest& request) const;
  void Apply(const v1::SynchronizeRequest& request, const v1::SynchronizeResponse& response);
  void ApplyVerdict(const v1::AttemptReport& report, const v1::AttemptVerdict& verdict);
  void ApplyDesired(const v1::DesiredAttempt& desired, absl::Duration now);
  void StartAttempt(const v1::DesiredAttempt& desired, absl::Duration now);
  void DropUndesired(const v1::SynchronizeRequest& request, const v1::SynchronizeResponse& response);
  void Drop(const v1::LeaseKey& lease, std::string_view why);
  void ExpireLeases();
  absl::Duration UntilNextExpiry() const;
  // Drains or stops when the time for it has come, or the executor is of no use any more.
  void LeaveInTime();
  // What Run returns once nothing is held.
  absl::Status Farewell() const;
  // When LeaveInTime has to be asked again, at the latest.
  absl::Duration NextLeave() const;
  // Nothing new is taken from then on.
  absl::Duration LastStart() const;
  void WaitFor(absl::Duration time);
  void Wake();
  bool Done() const;
  std::shared_ptr<HeldAttempt> Find(const v1::LeaseKey& lease) const;

  const AgentOptions options_;
  const Deps deps_;
  const std::string session_id_;
  const v1::WorkerAbilities abilities_;
  // Used by Run's thread alone, as what follows.
  TelemetryReader telemetry_;

  std::vector<std::shared_ptr<HeldAttempt>> held_;
  // Those whose lease ended by this machine's clock since the last answer: the next one may say that it had not.
  std::vector<std::shared_ptr<HeldAttempt>> lapsed_;
  absl::Duration next_sync_after_;
  // Since when nothing has been held.
  absl::Duration idle_since_;
  // Of the trials whose results were accepted, from their start.
  absl::Duration longest_trial_;
  // The coordinator knows that this worker takes nothing more and holds nothing.
  bool took_leave_ = false;

  std::atomic<bool> draining_{false};
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::condition_variable woken_;
  bool wake_ = false;  // guarded by mutex_

  AttemptRunner runner_;  // last: its thread uses the rest
};

}  // namespace loupe::worker::agent
