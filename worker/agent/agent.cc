#include "worker/agent/agent.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/strip.h"
#include "clients/rpc/rpc_status.h"
#include "common/error_details.h"
#include "common/logging.h"
#include "fmt/format.h"

namespace loupe::worker::agent {
namespace {

// Between two calls, whatever the answers say: a confused coordinator must not be hammered.
constexpr absl::Duration kLeastPause = absl::Milliseconds(10);

absl::Duration FromProto(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

void SetProto(absl::Duration duration, google::protobuf::Duration& proto) {
  const int64_t nanos = absl::ToInt64Nanoseconds(duration);
  proto.set_seconds(nanos / 1'000'000'000);
  proto.set_nanos(static_cast<int32_t>(nanos % 1'000'000'000));
}

bool SameLease(const v1::LeaseKey& a, const v1::LeaseKey& b) {
  return a.trial() == b.trial() && a.epoch() == b.epoch() && a.lease_token() == b.lease_token();
}

std::string Text(absl::string_view text) { return std::string(text); }

// Errors that another try would meet again. A token that ends in the middle of a trial is none: the trial's work is
// worth waiting for a new token (the connection reads its token file again).
bool IsFinal(const absl::Status& status, bool holds_attempts) {
  switch (status.code()) {
    case absl::StatusCode::kUnauthenticated:
      return !holds_attempts;
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kUnimplemented:
      return true;
    default:
      return false;
  }
}

v1::WorkerAbilities AbilitiesOf(const executor::Executor& executor, int64_t memory_bytes) {
  const executor::WorkerAbilities can = executor.Abilities();
  v1::WorkerAbilities abilities;
  abilities.set_settings_version(can.settings_version);
  abilities.mutable_methods()->Add(can.methods.begin(), can.methods.end());
  abilities.mutable_tasks()->Add(can.tasks.begin(), can.tasks.end());
  abilities.mutable_bases()->Add(can.bases.begin(), can.bases.end());
  abilities.mutable_devices()->Add(can.devices.begin(), can.devices.end());
  if (can.devices.empty()) abilities.add_devices(executor.DeviceDescription());
  abilities.mutable_half_precisions()->Add(can.half_precisions.begin(), can.half_precisions.end());
  const bool on_cpu = abilities.devices(0).starts_with("cpu");
  abilities.set_device_memory_bytes(can.device_memory_bytes == 0 && on_cpu ? memory_bytes : can.device_memory_bytes);
  return abilities;
}

std::string WorkerFolder(const AgentOptions& options) {
  const std::string parent = options.scratch_folder.empty() ? options.data_folder + "/workers" : options.scratch_folder;
  return fmt::format("{}/{}", parent, Text(absl::StripPrefix(options.worker, "workers/")));
}

}  // namespace

Agent::Agent(AgentOptions options, Deps deps)
    : options_(std::move(options)),
      deps_(deps),
      session_id_(ToHex(deps.random->NextToken())),
      abilities_(AbilitiesOf(*deps.executor, options_.memory_bytes)),
      telemetry_(*deps.clock, *deps.executor, {abilities_.devices().begin(), abilities_.devices().end()}),
      idle_since_(deps.clock->MonotonicNow()),
      runner_(*deps.executor, WorkerFolder(options_), options_.data_folder + "/checkpoints") {}

Agent::~Agent() {
  // An upload that waits for the coordinator must not hold up the runner's end.
  for (const auto& attempt : held_) attempt->RequestStop(StopReason::kShutdown);
}

absl::Status Agent::Run() {
  Backoff backoff(options_.backoff, *deps_.random);
  absl::Duration give_up_at = absl::InfiniteDuration();
  for (;;) {
    LeaveInTime();
    const bool leaving = stopping_ || (draining_ && held_.empty());
    if (leaving && give_up_at == absl::InfiniteDuration()) give_up_at = deps_.clock->MonotonicNow() + options_.farewell;
    if (stopping_) {
      for (const auto& attempt : held_) attempt->RequestStop(StopReason::kShutdown);
    }
    if (Done()) return Farewell();
    // A stopping executor needs its step; only a coordinator that is away may cost us the farewell.
    if (deps_.clock->MonotonicNow() >= give_up_at && backoff.failures() > 0) return Farewell();

    const v1::SynchronizeRequest request = MakeRequest();
    const auto response = deps_.client->Synchronize(request, CallTimeout(request));
    ExpireLeases();
    if (response.ok()) {
      if (backoff.failures() > 0) LogInfo("connected to the coordinator");
      backoff.Reset();
      LeaveInTime();
      Apply(request, *response);
      if (Done()) return Farewell();
      WaitFor(next_sync_after_);
      continue;
    }
    if (ReasonOf(response.status()) == kReasonSessionSuperseded) {
      for (const auto& attempt : held_) attempt->RequestStop(StopReason::kLeaseLost);
      held_.clear();
      return absl::FailedPreconditionError(
          fmt::format("another process now works under the name '{}': this one stops. Give each worker its own --id.",
                      options_.worker));
    }
    if (IsFinal(response.status(), !held_.empty())) return response.status();
    // An interrupted call is our own doing; DEADLINE_EXCEEDED of a held one is how proxies end long polls.
    if (response.status().code() == absl::StatusCode::kCancelled) continue;
    const absl::Duration wait = std::max(backoff.Next(), RetryAfterOf(response.status()));
    LogWarning("the coordinator does not answer ({}); trying again in {:.1f} s", Text(response.status().message()),
               absl::ToDoubleSeconds(wait));
    WaitFor(std::min(wait, give_up_at - deps_.clock->MonotonicNow()));
  }
}

void Agent::RequestDrain() {
  draining_ = true;
  Wake();
  deps_.client->Interrupt();
}

void Agent::RequestStop() {
  draining_ = true;
  stopping_ = true;
  Wake();
  deps_.client->Interrupt();
}

void Agent::Wake() {
  {
    const std::lock_guard lock(mutex_);
    wake_ = true;
  }
  woken_.notify_all();
}

// Not before the coordinator knows: a trial that it gave in an answer which never arrived would else wait for the end
// of its lease, and count as lost.
bool Agent::Done() const { return took_leave_ && held_.empty(); }

absl::Duration Agent::LastStart() const {
  const bool knows = longest_trial_ > absl::ZeroDuration();
  return options_.until - options_.hand_back -
         (knows ? std::min(options_.least_work, longest_trial_) : options_.least_work);
}

absl::Duration Agent::NextLeave() const {
  if (stopping_) return absl::InfiniteDuration();
  if (!held_.empty()) return options_.until - options_.hand_back;
  if (draining_) return absl::InfiniteDuration();
  return std::min(LastStart(), idle_since_ + options_.until_idle);
}

absl::Status Agent::Farewell() const {
  const std::string unable = deps_.executor->WhyUnable();
  return unable.empty() ? absl::OkStatus() : absl::UnavailableError(unable);
}

void Agent::LeaveInTime() {
  const absl::Duration now = deps_.clock->MonotonicNow();
  if (!held_.empty()) idle_since_ = now;
  if (const std::string unable = deps_.executor->WhyUnable(); !draining_ && !unable.empty()) {
    // It would take one trial after the other and lose each at once.
    LogError("{}: this worker leaves", unable);
    draining_ = true;
  }
  if (!draining_ && now >= LastStart()) {
    LogInfo("this worker's time is nearly up: nothing new is taken");
    draining_ = true;
  }
  if (!draining_ && now - idle_since_ >= options_.until_idle) {
    LogInfo("nothing to run for {}: this worker leaves", absl::FormatDuration(options_.until_idle));
    draining_ = true;
  }
  if (!stopping_ && !held_.empty() && now >= options_.until - options_.hand_back) {
    LogInfo("this worker's time is up: what runs is handed back");
    draining_ = stopping_ = true;
  }
}

v1::SynchronizeRequest Agent::MakeRequest() {
  v1::SynchronizeRequest request;
  request.set_worker(options_.worker);
  request.set_session_id(session_id_);
  auto& description = *request.mutable_description();
  description.set_hostname(options_.hostname);
  description.set_device(deps_.executor->DeviceDescription());
  description.set_version(options_.version);
  description.set_process_id(getpid());
  description.set_threads(options_.threads);
  description.set_memory_bytes(options_.memory_bytes);
  *description.mutable_abilities() = abilities_;
  *request.mutable_telemetry() = telemetry_.Read();
  const size_t log_bytes =
      std::min(AttemptLogBuffer::kMostBytes, AttemptLogBuffer::kMostMessageBytes / std::max<size_t>(1, held_.size()));
  for (const auto& attempt : held_) *request.add_attempts() = attempt->Report(log_bytes);
  request.set_slots(1);
  request.set_pack_slots(deps_.executor->PackSlots());
  request.set_draining(draining_);
  const absl::Duration left = std::max(NextLeave() - deps_.clock->MonotonicNow(), absl::ZeroDuration());
  SetProto(held_.empty() && !draining_ ? std::min(options_.idle_wait, left) : absl::ZeroDuration(),
           *request.mutable_max_wait());
  return request;
}

absl::Duration Agent::CallTimeout(const v1::SynchronizeRequest& request) const {
  const absl::Duration patience = FromProto(request.max_wait()) + options_.call_timeout;
  // Wake up in time to give up a lease that this call does not renew.
  return std::clamp(UntilNextExpiry(), absl::Milliseconds(1), patience);
}

absl::Duration Agent::UntilNextExpiry() const {
  absl::Duration first = absl::InfiniteDuration();
  for (const auto& attempt : held_) {
    if (!attempt->finished()) first = std::min(first, attempt->StopBy());
  }
  return first - deps_.clock->MonotonicNow();
}

void Agent::ExpireLeases() {
  const absl::Duration now = deps_.clock->MonotonicNow();
  std::erase_if(held_, [&](const std::shared_ptr<HeldAttempt>& attempt) {
    if (!attempt->ExpireIfDue(now)) return false;
    LogWarning("{} (attempt {}): the lease could not be renewed in time; stopping it", attempt->lease().trial(),
               attempt->lease().epoch());
    lapsed_.push_back(attempt);
    return true;
  });
}

std::shared_ptr<HeldAttempt> Agent::Find(const v1::LeaseKey& lease) const {
  const auto found =
      std::find_if(held_.begin(), held_.end(), [&](const auto& attempt) { return SameLease(attempt->lease(), lease); });
  return found == held_.end() ? nullptr : *found;
}

void Agent::Drop(const v1::LeaseKey& lease, std::string_view why) {
  const auto attempt = Find(lease);
  if (attempt == nullptr) return;
  attempt->RequestStop(StopReason::kLeaseLost);
  std::erase(held_, attempt);
  LogWarning("{} (attempt {}): dropped: {}", lease.trial(), lease.epoch(), why);
}

void Agent::Apply(const v1::SynchronizeRequest& request, const v1::SynchronizeResponse& response) {
  const absl::Duration now = deps_.clock->MonotonicNow();
  if (response.draining() && !draining_) LogInfo("drained by an operator: nothing new is taken");
  const int verdicts = std::min(request.attempts_size(), response.verdicts_size());
  for (int i = 0; i < verdicts; ++i) ApplyVerdict(request.attempts(i), response.verdicts(i));
  DropUndesired(request, response);
  for (const auto& desired : response.attempts()) ApplyDesired(desired, now);
  lapsed_.clear();
  took_leave_ = request.draining() && held_.empty();
  next_sync_after_ = std::max(FromProto(response.next_sync_after()), kLeastPause);
  for (const auto& attempt : held_) {
    // What finished while this answer was under way, or did not fit into the last report, goes at once.
    if (attempt->finished() || attempt->HasMorePoints()) next_sync_after_ = kLeastPause;
  }
}

void Agent::ApplyVerdict(const v1::AttemptReport& report, const v1::AttemptVerdict& verdict) {
  const auto attempt = Find(report.lease());
  if (attempt == nullptr) return;
  if (verdict.status().code() != 0) {
    if (ReasonOf(clients::rpc::FromRpcStatus(verdict.status())) == kReasonInputsDiffer)
      deps_.executor->ReadInputsAnew();
    return Drop(report.lease(), verdict.status().message());
  }
  attempt->AcknowledgePoints(verdict.acknowledged_point_sequence());
  // An older coordinator reads no log: it has had its chance.
  attempt->AcknowledgeLog(report);
  if (report.outcome_case() == v1::AttemptReport::OUTCOME_NOT_SET) return;
  std::erase(held_, attempt);
  if (report.has_success()) longest_trial_ = std::max(longest_trial_, deps_.clock->MonotonicNow() - attempt->started());
  LogInfo("{} (attempt {}): {}", report.lease().trial(), report.lease().epoch(),
          report.has_success() ? "result accepted"
          : report.stopped()   ? "stopped"
                               : "failure reported: " + report.failure().message());
  // A stopped trial may come back to this machine; a cancelled one does not, and neither does a finished one.
  if (report.has_success() || attempt->stop_reason() == StopReason::kTold) {
    runner_.ForgetCheckpoints(report.lease().trial());
  }
}

void Agent::DropUndesired(const v1::SynchronizeRequest& request, const v1::SynchronizeResponse& response) {
  for (const auto& report : request.attempts()) {
    const bool desired = std::any_of(response.attempts().begin(), response.attempts().end(),
                                     [&](const auto& entry) { return SameLease(entry.lease(), report.lease()); });
    if (!desired) Drop(report.lease(), "the coordinator does not want it any more");
  }
}

void Agent::ApplyDesired(const v1::DesiredAttempt& desired, absl::Duration now) {
  const auto attempt = Find(desired.lease());
  if (attempt != nullptr) {
    attempt->Renew(now, FromProto(desired.lease_duration()));
    if (desired.stop()) attempt->RequestStop(StopReason::kTold);
    attempt->RequestFinishAfter(desired.finish_after_step());
    return;
  }
  // While shutting down nothing is taken; the lease lapses, or the next report shows that it is not held.
  if (desired.stop() || draining_) return;
  StartAttempt(desired, now);
}

void Agent::StartAttempt(const v1::DesiredAttempt& desired, absl::Duration now) {
  const auto attempt =
      std::make_shared<HeldAttempt>(desired.lease(),
                                    HeldAttempt::Deps{deps_.client, deps_.clock, deps_.random, options_.upload_timeout,
                                                      options_.backoff, [this] { Wake(); }},
                                    now, FromProto(desired.lease_duration()));
  // A machine that stood still may find its lease alive after all. The coordinator counts the points of a lease:
  // numbered from 1 again they would be taken for repetitions, and the rest of the trial's curves be lost.
  for (const auto& lapsed : lapsed_) {
    if (SameLease(lapsed->lease(), desired.lease())) attempt->GoOnFrom(*lapsed);
  }
  attempt->OnLog(executor::LogLevel::kInfo, fmt::format("taken by {} on {} (Loupe {})", options_.worker,
                                                        deps_.executor->DeviceDescription(), options_.version));
  attempt->RequestFinishAfter(desired.finish_after_step());
  attempt->Trace(AttemptSpans::Begin(deps_.spans, *deps_.clock, desired, options_.worker));
  held_.push_back(attempt);
  const auto& assignment = desired.assignment();
  const std::map<std::string, std::string> values(assignment.settings().begin(), assignment.settings().end());
  // All that the trial has were settled when its sweep was made: this worker's own defaults are none of it.
  auto settings =
      settings::Settings::Create(values, settings::SettingDefaults::None(std::max(1, assignment.settings_version())));
  if (!settings.ok()) {
    executor::AttemptOutcome outcome;
    outcome.failure_class = executor::FailureClass::kUserError;
    outcome.failure_message = fmt::format("this worker (version {}) does not accept the trial's settings: {}",
                                          options_.version, Text(settings.status().message()));
    attempt->Finish(std::move(outcome));
    return;
  }
  // Without checkpoints it would be cut off for nothing: another worker has more time.
  const absl::Duration hand_back_at = options_.until - options_.hand_back;
  if (settings->Integer("train.checkpoint_every") == 0 && now + longest_trial_ > hand_back_at) {
    LogInfo("{} has no checkpoints and would not end in this worker's time: it goes back", desired.lease().trial());
    draining_ = true;
    executor::AttemptOutcome outcome;
    outcome.kind = executor::AttemptOutcome::Kind::kStopped;
    attempt->Finish(std::move(outcome));
    return;
  }
  executor::AttemptSpec spec;
  spec.trial = desired.lease().trial();
  spec.epoch = desired.lease().epoch();
  spec.settings = *std::move(settings);
  spec.sweep_seed = assignment.sweep_seed();
  spec.replicate = assignment.replicate();
  spec.cell.insert(assignment.cell().begin(), assignment.cell().end());
  runner_.Start(attempt, std::move(spec));
}

void Agent::WaitFor(absl::Duration time) {
  std::unique_lock lock(mutex_);
  const absl::Duration bounded = std::clamp(std::min(UntilNextExpiry(), NextLeave() - deps_.clock->MonotonicNow()),
                                            absl::ZeroDuration(), std::max(time, absl::ZeroDuration()));
  woken_.wait_for(lock, absl::ToChronoNanoseconds(bounded), [this] { return wake_; });
  wake_ = false;
  lock.unlock();
  ExpireLeases();
}

}  // namespace loupe::worker::agent
