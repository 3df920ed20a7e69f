#include "worker/agent/held_attempt.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "spdlog/spdlog.h"

namespace loupe::worker {
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

v1::Failure::Class ToProto(FailureClass failure_class) {
  return failure_class == FailureClass::kUserError ? v1::Failure::USER_ERROR : v1::Failure::RETRYABLE;
}

}  // namespace

HeldAttempt::HeldAttempt(v1::LeaseKey lease, Deps deps, absl::Duration now, absl::Duration lease_duration)
    : lease_(std::move(lease)), deps_(std::move(deps)), stop_by_(now + lease_duration * kUsableShareOfLease) {}

void HeldAttempt::OnProgress(std::string_view phase, int64_t step, int64_t total_steps) {
  const std::lock_guard lock(mutex_);
  phase_ = phase;
  step_ = step;
  total_steps_ = total_steps;
}

void HeldAttempt::OnMetric(std::string_view metric, int64_t step, double value) {
  v1::MetricPoint point;
  point.set_metric(metric.data(), metric.size());
  point.set_step(step);
  point.set_value(value);
  const std::lock_guard lock(mutex_);
  points_.push_back(std::move(point));
}

absl::Status HeldAttempt::OnArtifact(std::string_view name, std::string_view media_type, const std::string& path) {
  const ArtifactFile file{std::string(name), std::string(media_type), path};
  Backoff backoff(deps_.backoff, *deps_.random);
  // As long as the lease is held: a coordinator that restarts must not cost a finished training. Losing the lease
  // (ExpireIfDue) ends it.
  for (;;) {
    const absl::Status status = deps_.client->Upload(lease_, file, deps_.upload_timeout);
    std::unique_lock lock(mutex_);
    if (status.ok()) {
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
    spdlog::warn("{}: {}; trying again", lease_.trial(), std::string(status.message()));
    const auto wait = absl::ToChronoNanoseconds(backoff.Next());
    stopped_.wait_for(lock, wait, [this] { return ShouldStopLocked(); });
  }
}

bool HeldAttempt::ShouldStop() const {
  const std::lock_guard lock(mutex_);
  return ShouldStopLocked();
}

void HeldAttempt::Finish(AttemptOutcome outcome) {
  {
    const std::lock_guard lock(mutex_);
    outcome_ = std::move(outcome);
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
}

v1::AttemptReport HeldAttempt::Report() const {
  const std::lock_guard lock(mutex_);
  v1::AttemptReport report;
  *report.mutable_lease() = lease_;
  report.set_phase(phase_);
  report.set_step(step_);
  report.set_total_steps(total_steps_);
  const auto count = std::min<int64_t>(static_cast<int64_t>(points_.size()), kMaxPointsPerReport);
  for (int64_t i = 0; i < count; ++i) *report.add_points() = points_[static_cast<size_t>(i)];
  report.set_point_sequence(acknowledged_ + count);
  // The outcome goes with the last points: once it is acknowledged, nothing more is taken.
  if (!outcome_.has_value() || count < static_cast<int64_t>(points_.size())) return report;

  switch (outcome_->kind) {
    case AttemptOutcome::Kind::kSuccess: {
      auto& success = *report.mutable_success();
      for (const auto& [name, value] : outcome_->scores) (*success.mutable_scores())[name] = value;
      for (const std::string& name : artifacts_) success.add_artifacts(name);
      success.set_train_seconds(outcome_->train_seconds);
      success.set_total_seconds(outcome_->total_seconds);
      for (const auto& [key, value] : outcome_->provenance) (*success.mutable_provenance())[key] = value;
      break;
    }
    case AttemptOutcome::Kind::kFailure: {
      auto& failure = *report.mutable_failure();
      failure.set_class_(ToProto(outcome_->failure_class));
      failure.set_message(outcome_->failure_message);
      break;
    }
    case AttemptOutcome::Kind::kStopped:
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

bool HeldAttempt::HasMorePoints() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int64_t>(points_.size()) > kMaxPointsPerReport;
}

}  // namespace loupe::worker
