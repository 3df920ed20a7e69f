#include "worker/agent/attempt_runner.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "fmt/format.h"
#include "spdlog/spdlog.h"

namespace loupe::worker {
namespace {

namespace fs = std::filesystem;

AttemptOutcome Stopped() {
  AttemptOutcome outcome;
  outcome.kind = AttemptOutcome::Kind::kStopped;
  return outcome;
}

AttemptOutcome CannotMakeFolder(const std::string& folder, const std::error_code& error) {
  AttemptOutcome outcome;
  outcome.failure_message =
      fmt::format("{}: cannot be created ({}); the worker needs room and permission there", folder, error.message());
  return outcome;
}

}  // namespace

AttemptRunner::AttemptRunner(Executor& executor, std::string work_folder, std::string checkpoint_root)
    : executor_(executor), work_folder_(std::move(work_folder)), checkpoint_root_(std::move(checkpoint_root)) {
  std::error_code ignored;
  fs::remove_all(work_folder_, ignored);
  thread_ = std::thread([this] { Loop(); });
}

AttemptRunner::~AttemptRunner() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    if (running_ != nullptr) running_->RequestStop(StopReason::kShutdown);
    for (const Job& job : queue_) job.attempt->RequestStop(StopReason::kShutdown);
  }
  changed_.notify_all();
  thread_.join();
  std::error_code ignored;
  fs::remove_all(work_folder_, ignored);
}

void AttemptRunner::Start(std::shared_ptr<HeldAttempt> attempt, AttemptSpec spec) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back({std::move(attempt), std::move(spec)});
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
    Job job;
    {
      std::unique_lock lock(mutex_);
      running_ = nullptr;
      changed_.wait(lock, [this] { return closing_ || !queue_.empty(); });
      if (queue_.empty()) return;
      job = std::move(queue_.front());
      queue_.pop_front();
      running_ = job.attempt;
    }
    RunJob(std::move(job));
  }
}

void AttemptRunner::RunJob(Job job) {
  if (job.attempt->ShouldStop()) return job.attempt->Finish(Stopped());
  AttemptSpec& spec = job.spec;
  spec.scratch_folder = fmt::format("{}/{}", work_folder_, ++jobs_);
  spec.checkpoint_folder = CheckpointFolder(spec.trial);
  for (const std::string& folder : {spec.scratch_folder, spec.checkpoint_folder}) {
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) return job.attempt->Finish(CannotMakeFolder(folder, error));
  }
  spdlog::info("{} (attempt {}): started", spec.trial, spec.epoch);
  AttemptOutcome outcome = executor_.Run(spec, *job.attempt);
  std::error_code ignored;
  fs::remove_all(spec.scratch_folder, ignored);
  job.attempt->Finish(std::move(outcome));
}

}  // namespace loupe::worker
