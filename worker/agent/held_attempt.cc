#include "worker/agent/held_attempt.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "common/logging.h"
#include "fmt/format.h"

namespace loupe::worker::agent {
namespace {

// The share of a lease that a worker uses: the rest covers the answer's way and the last training step.
constexpr double kUsableShareOfLease = 0.9;

bool WorthRepeating(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kResourceExhausted:
    // The token has expired or was revoked: its file may get a new one before the lease ends.
    case absl::StatusCode::kUnauthenticated:
      return true;
    default:
      return false;
  }
}

v1::Failure::Class ToProto(executor::FailureClass failure_class) {
  switch (failure_class) {
    case executor::FailureClass::kUserError:
      return v1::Failure::USER_ERROR;
    case executor::FailureClass::kLost:
      return v1::Failure::LOST_WORKER;
    case executor::FailureClass::kRetryable:
      break;
  }
  return v1::Failure::RETRYABLE;
}

constexpr std::string_view kTrains = "train";
// While others of the pack are prepared or scored.
constexpr std::string_view kWaits = "wait";

executor::LogLevel LevelOf(const executor::AttemptOutcome& outcome) {
  return outcome.kind == executor::AttemptOutcome::Kind::kFailure ? executor::LogLevel::kError
                                                                  : executor::LogLevel::kInfo;
}

std::string TextOf(const executor::AttemptOutcome& outcome) {
  switch (outcome.kind) {
    case executor::AttemptOutcome::Kind::kSuccess:
      return fmt::format("has a result after {:.1f} s, {:.1f} s of them training", outcome.total_seconds,
                         outcome.train_seconds);
    case executor::AttemptOutcome::Kind::kFailure:
      return outcome.failure_message;
    case executor::AttemptOutcome::Kind::kStopped:
      break;
  }
  return "stopped";
}

}  // namespace

HeldAttempt::HeldAttempt(v1::LeaseKey lease, Deps deps, absl::Duration now, absl::Duration lease_duration)
    : lease_(std::move(lease)),
      started_(now),
      deps_(std::move(deps)),
      stop_by_(now + lease_duration * kUsableShareOfLease) {}

void HeldAttempt::OnProgress(std::string_view phase, int64_t step, int64_t total_steps) {
  const std::lock_guard lock(mutex_);
  LogPhaseLocked(phase, total_steps);
  if (spans_ != nullptr) spans_->NotePhase(phase, step, total_steps);
  phase_ = phase;
  step_ = step;
  total_steps_ = total_steps;
}

void HeldAttempt::LogPhaseLocked(std::string_view phase, int64_t total_steps) {
  if (phase == logged_phase_ || phase == kWaits) return;
  const absl::Time now = deps_.clock->WallNow();
  std::string text = fmt::format("{} begins", phase);
  if (phase == kTrains && total_steps > 0) text += fmt::format(", {} steps", total_steps);
  if (!logged_phase_.empty())
    text += fmt::format("; {} took {:.1f} s", logged_phase_, absl::ToDoubleSeconds(now - phase_start_));
  log_.Add(now, executor::LogLevel::kInfo, text);
  logged_phase_ = phase;
  phase_start_ = now;
}

void HeldAttempt::OnMetric(std::string_view metric, int64_t step, double value) {
  v1::MetricPoint point;
  point.set_metric(metric.data(), metric.size());
  point.set_step(step);
  point.set_value(value);
  const std::lock_guard lock(mutex_);
  points_.push_back(std::move(point));
}

void HeldAttempt::OnPack(int32_t attempts) {
  const std::lock_guard lock(mutex_);
  pack_ = attempts;
}

void HeldAttempt::OnLog(executor::LogLevel level, std::string_view text) {
  // In a worker's own log a line says whose it is; here all are this trial's.
  if (const std::string whose = lease_.trial() + ": "; text.starts_with(whose)) text.remove_prefix(whose.size());
  const std::lock_guard lock(mutex_);
  log_.Add(deps_.clock->WallNow(), level, text);
}

absl::Status HeldAttempt::OnArtifact(std::string_view name, std::string_view media_type, const std::string& path) {
  const ArtifactFile file{std::string(name), std::string(media_type), path};
  Backoff backoff(deps_.backoff, *deps_.random);
  const absl::Time begin = deps_.clock->WallNow();
  // As long as the lease is held: a coordinator that restarts must not cost a finished training. Losing the lease
  // (ExpireIfDue) ends it.
  for (;;) {
    const absl::Status status = deps_.client->Upload(lease_, file, deps_.upload_timeout);
    std::unique_lock lock(mutex_);
    if (status.ok()) {
      if (spans_ != nullptr) spans_->NoteUpload(file.name, begin);
      artifacts_.push_back(file.name);
      return status;
    }
    if (status.code() == absl::StatusCode::kAborted) {
      stop_reason_ = StopReason::kLeaseLost;
      stopped_.notify_all();
      return status;
    }
    if (ShouldStopLocked()) return absl::AbortedError("the attempt was told to stop while it handed over its files");
    if (!WorthRepeating(status)) return status;
    LogWarning("{}: {}; trying again", lease_.trial(), std::string(status.message()));
    const auto wait = absl::ToChronoNanoseconds(backoff.Next());
    stopped_.wait_for(lock, wait, [this] { return ShouldStopLocked(); });
  }
}

bool HeldAttempt::ShouldStop() const {
  const std::lock_guard lock(mutex_);
  return ShouldStopLocked();
}

void HeldAttempt::Finish(executor::AttemptOutcome outcome) {
  {
    const std::lock_guard lock(mutex_);
    outcome_ = std::move(outcome);
    if (spans_ != nullptr) spans_->End(*outcome_);
    log_.Add(deps_.clock->WallNow(), LevelOf(*outcome_), TextOf(*outcome_));
  }
  if (deps_.on_finished) deps_.on_finished();
}

void HeldAttempt::Renew(absl::Duration now, absl::Duration lease_duration) {
  const std::lock_guard lock(mutex_);
  stop_by_ = now + lease_duration * kUsableShareOfLease;
}

absl::Duration HeldAttempt::StopBy() const {
  const std::lock_guard lock(mutex_);
  return stop_by_;
}

bool HeldAttempt::ExpireIfDue(absl::Duration now) {
  const std::lock_guard lock(mutex_);
  // A finished attempt waits: the coordinator may still take its result, and decides.
  if (outcome_.has_value() || stop_reason_ == StopReason::kLeaseLost || now < stop_by_) return false;
  stop_reason_ = StopReason::kLeaseLost;
  stopped_.notify_all();
  return true;
}

void HeldAttempt::RequestStop(StopReason reason) {
  const std::lock_guard lock(mutex_);
  if (stop_reason_ == StopReason::kNone || reason == StopReason::kLeaseLost) stop_reason_ = reason;
  stopped_.notify_all();
}

void HeldAttempt::RequestFinishAfter(int64_t step) {
  const std::lock_guard lock(mutex_);
  finish_after_ = step;
}

int64_t HeldAttempt::FinishAfter() const {
  const std::lock_guard lock(mutex_);
  return finish_after_;
}

StopReason HeldAttempt::stop_reason() const {
  const std::lock_guard lock(mutex_);
  return stop_reason_;
}

bool HeldAttempt::finished() const {
  const std::lock_guard lock(mutex_);
  return outcome_.has_value();
}

void HeldAttempt::GoOnFrom(const HeldAttempt& before) {
  const std::scoped_lock lock(mutex_, before.mutex_);
  acknowledged_ = before.acknowledged_;
  points_ = before.points_;
  log_ = before.log_;
}

v1::AttemptReport HeldAttempt::Report(size_t log_bytes) const {
  const std::lock_guard lock(mutex_);
  v1::AttemptReport report;
  *report.mutable_lease() = lease_;
  report.set_phase(phase_);
  report.set_step(step_);
  report.set_total_steps(total_steps_);
  report.set_pack(pack_);
  const auto count = std::min<int64_t>(static_cast<int64_t>(points_.size()), kMaxPointsPerReport);
  for (int64_t i = 0; i < count; ++i) *report.add_points() = points_[static_cast<size_t>(i)];
  report.set_point_sequence(acknowledged_ + count);
  // The outcome goes with the last points: once it is acknowledged, nothing more is taken. It waits for no line.
  const bool last = outcome_.has_value() && count == static_cast<int64_t>(points_.size());
  log_.Fill(log_bytes, last, report);
  if (!last) return report;

  switch (outcome_->kind) {
    case executor::AttemptOutcome::Kind::kSuccess: {
      auto& success = *report.mutable_success();
      for (const auto& [name, value] : outcome_->scores) (*success.mutable_scores())[name] = value;
      for (const std::string& name : artifacts_) success.add_artifacts(name);
      success.set_train_seconds(outcome_->train_seconds);
      success.set_total_seconds(outcome_->total_seconds);
      success.set_stopped_at_step(outcome_->stopped_at_step);
      for (const auto& [key, value] : outcome_->provenance) (*success.mutable_provenance())[key] = value;
      break;
    }
    case executor::AttemptOutcome::Kind::kFailure: {
      auto& failure = *report.mutable_failure();
      failure.set_class_(ToProto(outcome_->failure_class));
      failure.set_message(outcome_->failure_message);
      break;
    }
    case executor::AttemptOutcome::Kind::kStopped:
      report.set_stopped(true);
      break;
  }
  return report;
}

void HeldAttempt::AcknowledgePoints(int64_t sequence) {
  const std::lock_guard lock(mutex_);
  while (acknowledged_ < sequence && !points_.empty()) {
    points_.pop_front();
    ++acknowledged_;
  }
}

void HeldAttempt::AcknowledgeLog(const v1::AttemptReport& report) {
  if (report.log().empty()) return;
  const std::lock_guard lock(mutex_);
  log_.Acknowledge(report.log().rbegin()->sequence());
}

bool HeldAttempt::HasMorePoints() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int64_t>(points_.size()) > kMaxPointsPerReport;
}

}  // namespace loupe::worker::agent
