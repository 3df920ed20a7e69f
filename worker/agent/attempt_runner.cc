#include "worker/agent/attempt_runner.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "common/logging.h"
#include "fmt/format.h"

namespace loupe::worker::agent {
namespace {

namespace fs = std::filesystem;

executor::AttemptOutcome Stopped() {
  executor::AttemptOutcome outcome;
  outcome.kind = executor::AttemptOutcome::Kind::kStopped;
  return outcome;
}

executor::AttemptOutcome CannotMakeFolder(const std::string& folder, const std::error_code& error) {
  executor::AttemptOutcome outcome;
  outcome.failure_message =
      fmt::format("{}: cannot be created ({}); the worker needs room and permission there", folder, error.message());
  return outcome;
}

}  // namespace

AttemptRunner::AttemptRunner(executor::Executor& executor, std::string work_folder, std::string checkpoint_root)
    : executor_(executor), work_folder_(std::move(work_folder)), checkpoint_root_(std::move(checkpoint_root)) {
  std::error_code ignored;
  fs::remove_all(work_folder_, ignored);
  thread_ = std::thread([this] { Loop(); });
}

AttemptRunner::~AttemptRunner() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    for (const Job& job : running_) job.attempt->RequestStop(StopReason::kShutdown);
    for (const Job& job : queue_) job.attempt->RequestStop(StopReason::kShutdown);
  }
  changed_.notify_all();
  thread_.join();
  std::error_code ignored;
  fs::remove_all(work_folder_, ignored);
}

void AttemptRunner::Start(std::shared_ptr<HeldAttempt> attempt, executor::AttemptSpec spec) {
  std::string key = settings::PackKey(spec.settings.values());
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back({std::move(attempt), std::move(spec), std::move(key)});
  }
  changed_.notify_all();
}

void AttemptRunner::ForgetCheckpoints(const std::string& trial) {
  std::error_code ignored;
  fs::remove_all(CheckpointFolder(trial), ignored);
}

// The resource name is the path: sweeps/{sweep}/trials/{index}.
std::string AttemptRunner::CheckpointFolder(const std::string& trial) const { return checkpoint_root_ + "/" + trial; }

void AttemptRunner::Loop() {
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      pack_key_.reset();
      changed_.wait(lock, [this] { return closing_ || !queue_.empty(); });
      if (queue_.empty()) return;
    }
    executor_.RunPack(*this);
  }
}

std::optional<AttemptRunner::Job> AttemptRunner::Take() {
  const std::lock_guard lock(mutex_);
  const auto job = std::find_if(queue_.begin(), queue_.end(), [&](const Job& waiting) {
    // An earlier attempt of the same trial, whose lease is lost, may not have ended yet: they share a checkpoint.
    const bool runs = std::any_of(running_.begin(), running_.end(),
                                  [&](const Job& running) { return running.spec.trial == waiting.spec.trial; });
    return !runs && (!pack_key_ || waiting.pack_key == *pack_key_);
  });
  if (job == queue_.end()) return std::nullopt;
  Job taken = std::move(*job);
  queue_.erase(job);
  running_.push_back(taken);
  return taken;
}

std::optional<executor::HeardAttempt> AttemptRunner::Next() {
  while (std::optional<Job> job = Take()) {
    if (job->attempt->ShouldStop()) {
      End(*job, Stopped());
      continue;
    }
    executor::AttemptSpec& spec = job->spec;
    spec.scratch_folder = fmt::format("{}/{}", work_folder_, ++jobs_);
    spec.checkpoint_folder = CheckpointFolder(spec.trial);
    std::error_code error;
    std::string folder = spec.scratch_folder;
    fs::create_directories(folder, error);
    if (!error) fs::create_directories(folder = spec.checkpoint_folder, error);
    if (error) {
      End(*job, CannotMakeFolder(folder, error));
      continue;
    }
    LogInfo("{} (attempt {}): started", spec.trial, spec.epoch);
    const std::lock_guard lock(mutex_);
    pack_key_ = job->pack_key;
    return executor::HeardAttempt{std::move(spec), job->attempt.get()};
  }
  return std::nullopt;
}

void AttemptRunner::Finish(const executor::HeardAttempt& heard, executor::AttemptOutcome outcome) {
  std::error_code ignored;
  fs::remove_all(heard.spec.scratch_folder, ignored);
  Job job;
  {
    const std::lock_guard lock(mutex_);
    job = *std::find_if(running_.begin(), running_.end(),
                        [&](const Job& running) { return running.attempt.get() == heard.observer; });
  }
  End(job, std::move(outcome));
}

void AttemptRunner::End(const Job& job, executor::AttemptOutcome outcome) {
  {
    const std::lock_guard lock(mutex_);
    std::erase_if(running_, [&](const Job& running) { return running.attempt == job.attempt; });
  }
  job.attempt->Finish(std::move(outcome));
}

}  // namespace loupe::worker::agent
