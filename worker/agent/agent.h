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
#include "loupe/v1/worker.pb.h"
#include "worker/agent/attempt_runner.h"
#include "worker/agent/backoff.h"
#include "worker/agent/coordinator_client.h"
#include "worker/agent/held_attempt.h"
#include "worker/executor/attempt.h"

namespace loupe::worker {

struct AgentOptions {
  // "workers/gpu-3": the coordinator knows the process by it. A newer process of the same name supersedes this one.
  std::string worker;
  // What ListWorkers shows; the device is asked of the executor.
  std::string hostname;
  std::string version;
  int32_t threads = 0;
  int64_t memory_bytes = 0;
  // Scratch files go to {data_folder}/workers/{id}, checkpoints to {data_folder}/checkpoints.
  std::string data_folder;

  // How long the coordinator may hold a call when there is nothing to do.
  absl::Duration idle_wait = absl::Seconds(30);
  // For an answer that is not held; a held one may take idle_wait more.
  absl::Duration call_timeout = absl::Seconds(10);
  absl::Duration upload_timeout = absl::Seconds(60);
  BackoffOptions backoff;
  // After RequestStop: how long to try to tell the coordinator that the attempts are stopped.
  absl::Duration farewell = absl::Seconds(5);
};

// Owns the runner's thread; Run's caller is the synchronising thread. RequestDrain and RequestStop may be called from
// any thread, before or during Run.
class Agent {
 public:
  struct Deps {
    CoordinatorClient* client;  // none is owned; all outlive the agent
    Executor* executor;
    const Clock* clock;
    RandomSource* random;
  };
  Agent(AgentOptions options, Deps deps);
  ~Agent();

  // Works until drained or stopped: then OK. A coordinator that does not answer is tried again for ever, with growing,
  // jittered waits. FAILED_PRECONDITION when another process took this worker's name; UNAUTHENTICATED or
  // PERMISSION_DENIED when the token is refused; INVALID_ARGUMENT or UNIMPLEMENTED when the coordinator does not
  // understand this worker (another version): trying again would not help.
  absl::Status Run();

  // Takes nothing new, finishes what runs, hands in the results, then Run returns.
  void RequestDrain();
  // Stops what runs after its current step (it has a checkpoint), says so, then Run returns.
  void RequestStop();

 private:
  v1::SynchronizeRequest MakeRequest() const;
  absl::Duration CallTimeout(const v1::SynchronizeRequest& request) const;
  void Apply(const v1::SynchronizeRequest& request, const v1::SynchronizeResponse& response);
  void ApplyVerdict(const v1::AttemptReport& report, const v1::AttemptVerdict& verdict);
  void ApplyDesired(const v1::DesiredAttempt& desired, absl::Duration now);
  void StartAttempt(const v1::DesiredAttempt& desired, absl::Duration now);
  void DropUndesired(const v1::SynchronizeRequest& request, const v1::SynchronizeResponse& response);
  void Drop(const v1::LeaseKey& lease, std::string_view why);
  void ExpireLeases();
  absl::Duration UntilNextExpiry() const;
  void WaitFor(absl::Duration time);
  void Wake();
  bool Done() const;
  std::shared_ptr<HeldAttempt> Find(const v1::LeaseKey& lease) const;

  const AgentOptions options_;
  const Deps deps_;
  const std::string session_id_;
  const v1::WorkerAbilities abilities_;

  // Used by Run's thread alone.
  std::vector<std::shared_ptr<HeldAttempt>> held_;
  // Those whose lease ended by this machine's clock since the last answer: the next one may say that it had not.
  std::vector<std::shared_ptr<HeldAttempt>> lapsed_;
  absl::Duration next_sync_after_;

  std::atomic<bool> draining_{false};
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::condition_variable woken_;
  bool wake_ = false;  // guarded by mutex_

  AttemptRunner runner_;  // last: its thread uses the rest
};

}  // namespace loupe::worker
