// The one thread on which a worker's executor runs attempts: together where they fit each other, else one after
// another.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "worker/agent/held_attempt.h"
#include "worker/executor/attempt.h"

namespace loupe::worker::agent {

// Thread-safe. Destruction asks what runs to stop and waits for it.
class AttemptRunner : private executor::PackFeed {
 public:
  // `executor` must outlive it. `work_folder` is this process's own (emptied here); `checkpoint_root` may be shared
  // with other workers of the machine.
  AttemptRunner(executor::Executor& executor, std::string work_folder, std::string checkpoint_root);
  ~AttemptRunner() override;

  // Queues the attempt. `spec`'s two folders are filled in and made here. An attempt that was told to stop before its
  // turn comes is finished as stopped without running.
  void Start(std::shared_ptr<HeldAttempt> attempt, executor::AttemptSpec spec);

  // The trial's result is accepted or it was cancelled: its checkpoints are of no more use. Not called for a trial
  // that runs.
  void ForgetCheckpoints(const std::string& trial);

 private:
  struct Job {
    std::shared_ptr<HeldAttempt> attempt;
    executor::AttemptSpec spec;
    std::string pack_key;
  };

  void Loop();
  // PackFeed, for the thread.
  std::optional<executor::HeardAttempt> Next() override;
  void Finish(const executor::HeardAttempt& heard, executor::AttemptOutcome outcome) override;
  // The first job in the queue that fits the pack; it counts as running from here on.
  std::optional<Job> Take();
  void End(const Job& job, executor::AttemptOutcome outcome);
  std::string CheckpointFolder(const std::string& trial) const;

  executor::Executor& executor_;
  const std::string work_folder_;
  const std::string checkpoint_root_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> queue_;
  std::vector<Job> running_;
  // Of those that run; nothing between packs.
  std::optional<std::string> pack_key_;
  bool closing_ = false;
  int64_t jobs_ = 0;  // used by the thread alone
  std::thread thread_;
};

}  // namespace loupe::worker::agent
