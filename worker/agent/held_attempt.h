// One attempt that this worker holds a lease for: what the executor says of it, and what the next synchronisation tells
// the coordinator.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "common/clock.h"
#include "common/random_source.h"
#include "loupe/v1/worker.pb.h"
#include "worker/agent/attempt_log_buffer.h"
#include "worker/agent/attempt_spans.h"
#include "worker/agent/backoff.h"
#include "worker/agent/coordinator_client.h"
#include "worker/executor/attempt.h"

namespace loupe::worker::agent {

// Why an attempt was asked to end before its time. Later reasons do not replace earlier ones.
enum class StopReason {
  kNone,
  kTold,       // the coordinator said stop: report `stopped`
  kShutdown,   // this process ends: report `stopped`, so that the trial can run elsewhere
  kLeaseLost,  // nothing that it does counts any more: report nothing
};

// Thread-safe: the executor's thread writes through AttemptObserver, the agent's thread reads reports and renews.
class HeldAttempt : public executor::AttemptObserver {
 public:
  struct Deps {
    CoordinatorClient* client;  // not owned; outlives the attempt
    const Clock* clock;
    RandomSource* random;
    absl::Duration upload_timeout;
    BackoffOptions backoff;
    std::function<void()> on_finished;  // called once, from the executor's thread
  };
  // The lease runs from `now` for `lease_duration`.
  HeldAttempt(v1::LeaseKey lease, Deps deps, absl::Duration now, absl::Duration lease_duration);

  const v1::LeaseKey& lease() const { return lease_; }
  // When this process took it up.
  absl::Duration started() const { return started_; }

  // AttemptObserver
  void OnProgress(std::string_view phase, int64_t step, int64_t total_steps) override;
  void OnMetric(std::string_view metric, int64_t step, double value) override;
  void OnPack(int32_t attempts) override;
  void OnLog(executor::LogLevel level, std::string_view text) override;
  absl::Status OnArtifact(std::string_view name, std::string_view media_type, const std::string& path) override;
  bool ShouldStop() const override;
  int64_t FinishAfter() const override;

  // Its spans; null: it has none. Call it before anything runs.
  void Trace(std::unique_ptr<AttemptSpans> spans) { spans_ = std::move(spans); }

  // The executor's last word.
  void Finish(executor::AttemptOutcome outcome);

  // The agent's side.
  void Renew(absl::Duration now, absl::Duration lease_duration);
  // When the lease ends on this machine's clock, a little early, so that no two workers run a trial at once.
  absl::Duration StopBy() const;
  // Marks the attempt lost if it still runs at `now` >= StopBy(); true when it did so now.
  bool ExpireIfDue(absl::Duration now);
  void RequestStop(StopReason reason);
  // 0: to the end.
  void RequestFinishAfter(int64_t step);
  StopReason stop_reason() const;
  bool finished() const;

  // `before` held the same lease in this process and let go of it too early (its clock said that the lease was over,
  // the coordinator's did not): its points and its log are numbered on, and what is not acknowledged yet is still told.
  // Call it before anything else.
  void GoOnFrom(const HeldAttempt& before);

  // The state as of now, with at most `kMaxPointsPerReport` points that are not acknowledged, and lines of the log in
  // at most `log_bytes`.
  v1::AttemptReport Report(size_t log_bytes = AttemptLogBuffer::kMostBytes) const;
  // Points up to `sequence` are stored. A number from the future is ignored.
  void AcknowledgePoints(int64_t sequence);
  // The coordinator has heard `report`.
  void AcknowledgeLog(const v1::AttemptReport& report);
  // Whether the last Report left points out.
  bool HasMorePoints() const;

  // A message stays far under 4 MB: a point is about 30 bytes.
  static constexpr int64_t kMaxPointsPerReport = 5000;

 private:
  bool ShouldStopLocked() const { return stop_reason_ != StopReason::kNone; }
  void LogPhaseLocked(std::string_view phase, int64_t total_steps);

  const v1::LeaseKey lease_;
  const absl::Duration started_;
  const Deps deps_;

  mutable std::mutex mutex_;
  std::condition_variable stopped_;
  std::string phase_ = "queued";
  int64_t step_ = 0;
  int64_t total_steps_ = 0;
  int32_t pack_ = 0;
  std::deque<v1::MetricPoint> points_;  // not acknowledged; the first has sequence acknowledged_ + 1
  int64_t acknowledged_ = 0;
  AttemptLogBuffer log_;
  // As the log has it: what merely waits for others of its pack has begun no phase.
  std::string logged_phase_;
  absl::Time phase_start_;
  std::unique_ptr<AttemptSpans> spans_;
  std::vector<std::string> artifacts_;
  StopReason stop_reason_ = StopReason::kNone;
  int64_t finish_after_ = 0;
  absl::Duration stop_by_;
  std::optional<executor::AttemptOutcome> outcome_;
};

}  // namespace loupe::worker::agent
