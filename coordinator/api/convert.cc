#include "coordinator/api/convert.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/ids.h"
#include "common/status_macros.h"
#include "common/text.h"
#include "coordinator/engine/levels_json.h"
#include "fmt/format.h"

namespace loupe::coordinator::api {
namespace {

constexpr int kMaxReports = 1024;
constexpr int kMaxPoints = 20000;
constexpr int32_t kMaxSlots = 1024;
constexpr size_t kMaxText = 4096;
constexpr size_t kMaxName = 128;
constexpr int kMaxScores = 256;
constexpr int kMaxArtifactNames = 1000;
constexpr size_t kMaxProvenance = 256;
constexpr size_t kMaxAbilities = 64;
// Of a report's log; what a worker sends is less (worker/agent/attempt_log_buffer.h).
constexpr int kMaxLogLines = 1000;
constexpr size_t kMaxLogText = 4096;
constexpr int64_t kMaxSeconds = 253402300799;  // 9999-12-31T23:59:59Z, protobuf's last

// What a worker says is shown to people and kept: it is cut to a sensible length.
std::string Cut(const std::string& text) { return Shortened(text, kMaxText); }

std::string TrialName(const std::string& sweep_id, int64_t index) {
  return fmt::format("sweeps/{}/trials/{}", sweep_id, index);
}

v1::Trial::State ToProto(TrialState state) { return static_cast<v1::Trial::State>(state); }

v1::WorkerAbilities ToProto(const scheduler::WorkerAbilities& abilities) {
  v1::WorkerAbilities proto;
  proto.set_settings_version(abilities.settings_version);
  proto.mutable_methods()->Add(abilities.methods.begin(), abilities.methods.end());
  proto.mutable_tasks()->Add(abilities.tasks.begin(), abilities.tasks.end());
  proto.mutable_bases()->Add(abilities.bases.begin(), abilities.bases.end());
  proto.mutable_devices()->Add(abilities.devices.begin(), abilities.devices.end());
  proto.set_device_memory_bytes(abilities.device_memory_bytes);
  proto.mutable_half_precisions()->Add(abilities.half_precisions.begin(), abilities.half_precisions.end());
  return proto;
}

// What does not fit is left out: at worst the worker is not given what it could run.
scheduler::WorkerAbilities FromProto(const v1::WorkerAbilities& proto) {
  const auto names = [](const auto& given) {
    std::set<std::string> kept;
    for (const std::string& name : given) {
      if (kept.size() < kMaxAbilities && !name.empty() && name.size() <= kMaxName) kept.insert(name);
    }
    return kept;
  };
  scheduler::WorkerAbilities abilities{.settings_version = std::max(1, proto.settings_version()),
                                       .methods = names(proto.methods()),
                                       .tasks = names(proto.tasks()),
                                       .bases = names(proto.bases()),
                                       .device_memory_bytes = proto.device_memory_bytes(),
                                       .half_precisions = names(proto.half_precisions())};
  for (const std::string& device : proto.devices()) {
    if (abilities.devices.size() < kMaxAbilities) abilities.devices.push_back(Cut(device));
  }
  return abilities;
}

}  // namespace

void SetTimestamp(absl::Time time, google::protobuf::Timestamp* out) {
  const int64_t micros = absl::ToUnixMicros(time);
  int64_t seconds = micros / 1'000'000;
  int64_t rest = micros % 1'000'000;
  if (rest < 0) {
    rest += 1'000'000;
    --seconds;
  }
  out->set_seconds(seconds);
  out->set_nanos(static_cast<int32_t>(rest * 1000));
}

void SetDuration(absl::Duration duration, google::protobuf::Duration* out) {
  const int64_t nanos = absl::ToInt64Nanoseconds(duration);
  out->set_seconds(nanos / 1'000'000'000);
  out->set_nanos(static_cast<int32_t>(nanos % 1'000'000'000));
}

absl::Duration ToAbslDuration(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

v1::TrialCounts ToProto(const scheduler::TrialCounts& counts) {
  v1::TrialCounts proto;
  proto.set_total(counts.total());
  proto.set_queued(counts.queued);
  proto.set_running(counts.running);
  proto.set_succeeded(counts.succeeded);
  proto.set_failed(counts.failed);
  proto.set_cancelled(counts.cancelled);
  proto.set_quarantined(counts.quarantined);
  return proto;
}

v1::Sweep ToProto(const scheduler::SweepRecord& sweep, const scheduler::TrialCounts& counts,
                  std::optional<absl::Duration> estimated_time_left,
                  const std::vector<scheduler::WaitingTrials>& waiting, bool with_spec) {
  v1::Sweep proto;
  proto.set_name(fmt::format("sweeps/{}", sweep.id));
  proto.set_uid(sweep.uid);
  if (with_spec) {
    proto.mutable_spec()->ParseFromString(sweep.spec);
  } else {
    proto.mutable_spec()->set_display_name(sweep.display_name);
  }
  proto.set_state(static_cast<v1::Sweep::State>(sweep.shown_state()));
  *proto.mutable_counts() = ToProto(counts);
  SetTimestamp(sweep.create_time, proto.mutable_create_time());
  SetTimestamp(sweep.update_time, proto.mutable_update_time());
  if (sweep.end_time) SetTimestamp(*sweep.end_time, proto.mutable_end_time());
  proto.set_etag(fmt::format("{}", sweep.revision));
  proto.set_cell_count(sweep.cells);
  if (estimated_time_left) SetDuration(*estimated_time_left, proto.mutable_estimated_time_left());
  proto.set_state_reason(ToUtf8(sweep.state_reason));
  for (const scheduler::WaitingTrials& trials : waiting) *proto.add_waiting() = ToProto(trials);
  return proto;
}

v1::WaitingTrials ToProto(const scheduler::WaitingTrials& waiting) {
  v1::WaitingTrials proto;
  proto.set_sweep(fmt::format("sweeps/{}", waiting.sweep_id));
  proto.set_trials(waiting.trials);
  proto.set_reason(ToUtf8(waiting.reason));
  return proto;
}

v1::Trial ToProto(const scheduler::SweepRecord& sweep, const store::TrialRow& trial) {
  v1::Trial proto;
  proto.set_name(TrialName(sweep.id, trial.index));
  proto.set_state(ToProto(trial.state));
  for (const auto& [factor, level] : engine::ParseLevels(trial.cell_levels_json))
    (*proto.mutable_cell())[factor] = level;
  proto.set_cell_index(trial.cell_index);
  proto.set_replicate(trial.replicate);
  for (const auto& [name, value] : trial.scores) (*proto.mutable_scores())[name] = value;
  proto.set_stopped_at_step(trial.stopped_at_step);
  if (trial.last_failure) {
    proto.mutable_last_failure()->set_class_(static_cast<v1::Failure::Class>(trial.last_failure->failure_class));
    proto.mutable_last_failure()->set_message(
        ToUtf8(trial.last_failure->message));  // rows of older versions may be cut
  }
  proto.set_attempts(trial.epoch);
  proto.set_worker_losses(trial.worker_losses);
  if (!trial.worker.empty()) proto.set_worker(fmt::format("workers/{}", trial.worker));
  if (trial.start_time) SetTimestamp(*trial.start_time, proto.mutable_start_time());
  if (trial.end_time) SetTimestamp(*trial.end_time, proto.mutable_end_time());
  return proto;
}

v1::Artifact ToProto(const scheduler::ArtifactRecord& artifact) {
  v1::Artifact proto;
  proto.set_name(artifact.name);
  proto.set_media_type(artifact.media_type);
  proto.set_size_bytes(artifact.size_bytes);
  proto.set_sha256(artifact.sha256);
  proto.set_epoch(artifact.epoch);
  return proto;
}

v1::Worker ToProto(const scheduler::WorkerEntry& worker, const std::map<scheduler::SweepKey, std::string>& sweep_ids,
                   absl::Duration lease, absl::Duration now) {
  v1::Worker proto;
  const scheduler::WorkerRecord& record = worker.record;
  proto.set_name(fmt::format("workers/{}", record.id));
  auto* description = proto.mutable_description();
  description->set_hostname(ToUtf8(record.description.hostname));
  description->set_device(ToUtf8(record.description.device));
  description->set_version(ToUtf8(record.description.version));
  description->set_process_id(record.description.process_id);
  description->set_threads(record.description.threads);
  description->set_memory_bytes(record.description.memory_bytes);
  *description->mutable_abilities() = ToProto(record.description.abilities);
  if (!worker.parked && now - worker.last_sync > lease) {
    proto.set_state(v1::Worker::LOST);
  } else if (now < worker.set_aside_until) {
    proto.set_state(v1::Worker::SET_ASIDE);
  } else if (record.draining || worker.leaving) {
    proto.set_state(v1::Worker::DRAINING);
  } else {
    proto.set_state(worker.attempts.empty() ? v1::Worker::IDLE : v1::Worker::BUSY);
  }
  proto.set_slots(std::max(record.slots, record.pack_slots));
  for (const scheduler::TrialKey& trial : worker.attempts) {
    if (const auto id = sweep_ids.find(trial.sweep); id != sweep_ids.end())
      proto.add_running(TrialName(id->second, trial.index));
  }
  SetDuration(now - worker.last_sync, proto.mutable_since_last_sync());
  SetTimestamp(record.first_seen, proto.mutable_first_seen_time());
  proto.set_trials_succeeded(record.succeeded);
  proto.set_trials_failed(record.failed);
  return proto;
}

v1::RunningAttempt ToProto(const scheduler::SweepRecord& sweep, const scheduler::RunningAttempt& attempt,
                           const plan::Plan& plan) {
  v1::RunningAttempt proto;
  proto.set_trial(TrialName(sweep.id, attempt.trial.index));
  proto.set_worker(fmt::format("workers/{}", attempt.worker));
  proto.set_epoch(attempt.epoch);
  for (const auto& [factor, level] : plan.CellLevels(scheduler::CellOf(sweep, attempt.trial.index)))
    (*proto.mutable_cell())[factor] = level;
  proto.set_replicate(scheduler::ReplicateOf(sweep, attempt.trial.index));
  proto.set_phase(ToUtf8(attempt.phase));
  proto.set_step(attempt.step);
  proto.set_total_steps(attempt.total_steps);
  proto.set_pack(attempt.pack);
  for (const auto& [metric, value] : attempt.metrics) (*proto.mutable_metrics())[metric] = value;
  SetDuration(attempt.elapsed, proto.mutable_elapsed());
  return proto;
}

std::vector<store::LogLine> LogLinesOf(const v1::AttemptReport& report) {
  std::vector<store::LogLine> lines;
  for (int i = std::max(0, report.log_size() - kMaxLogLines); i < report.log_size(); ++i) {
    const v1::LogLine& said = report.log(i);
    if (said.sequence() <= (lines.empty() ? 0 : lines.back().sequence)) continue;
    const bool known = said.level() >= v1::LogLine::INFO && said.level() <= v1::LogLine::ERROR;
    lines.push_back({.sequence = said.sequence(),
                     .time = absl::FromUnixSeconds(std::clamp<int64_t>(said.time().seconds(), 0, kMaxSeconds)) +
                             absl::Nanoseconds(std::clamp(said.time().nanos(), 0, 999'999'999)),
                     .level = known ? static_cast<store::LogLevel>(said.level()) : store::LogLevel::kInfo,
                     .text = Shortened(Printable(Shortened(said.text(), kMaxLogText)), kMaxLogText)});
  }
  return lines;
}

v1::LogLine ToProto(const store::LogLine& line) {
  v1::LogLine proto;
  proto.set_sequence(line.sequence);
  SetTimestamp(line.time, proto.mutable_time());
  proto.set_level(static_cast<v1::LogLine::Level>(line.level));
  proto.set_text(line.text);
  return proto;
}

v1::LeaseKey ToProto(const scheduler::DesiredAttempt& attempt) {
  v1::LeaseKey proto;
  proto.set_trial(TrialName(attempt.sweep_id, attempt.trial.index));
  proto.set_epoch(attempt.epoch);
  proto.set_lease_token(ToHex(attempt.token));
  return proto;
}

absl::StatusOr<scheduler::LeaseClaim> FromProto(const v1::LeaseKey& lease) {
  LOUPE_ASSIGN_OR_RETURN(const TrialId trial, TrialId::FromName(lease.trial()));
  return scheduler::LeaseClaim{trial.sweep().id(), trial.index(), lease.epoch(), lease.lease_token()};
}

namespace {

// Scores that are no numbers are a failure that another try would only repeat.
std::variant<std::monostate, scheduler::Result, scheduler::Failure, scheduler::Stopped> OutcomeOf(
    const v1::AttemptReport& proto) {
  switch (proto.outcome_case()) {
    case v1::AttemptReport::kSuccess:
      break;
    case v1::AttemptReport::kFailure: {
      scheduler::Failure failure;
      // A class that only a newer worker knows is worth another try.
      switch (proto.failure().class_()) {
        case v1::Failure::USER_ERROR:
          failure.failure_class = scheduler::FailureClass::kUserError;
          break;
        case v1::Failure::LOST_WORKER:  // another process that the attempt had
          failure.failure_class = scheduler::FailureClass::kLostWorker;
          break;
        default:
          failure.failure_class = scheduler::FailureClass::kRetryable;
      }
      failure.message = Cut(proto.failure().message());
      return failure;
    }
    case v1::AttemptReport::kStopped:
      return scheduler::Stopped{};
    default:
      return std::monostate{};
  }
  const v1::Success& success = proto.success();
  if (success.scores_size() > kMaxScores || success.artifacts_size() > kMaxArtifactNames) {
    return scheduler::Failure{
        scheduler::FailureClass::kUserError,
        fmt::format("the result has {} scores and {} artifacts: at most {} and {} are taken", success.scores_size(),
                    success.artifacts_size(), kMaxScores, kMaxArtifactNames)};
  }
  scheduler::Result result;
  for (const auto& [name, value] : success.scores()) {
    if (name.empty() || name.size() > kMaxName) {
      return scheduler::Failure{scheduler::FailureClass::kUserError,
                                fmt::format("a score's name has {} bytes: expected 1 to {}", name.size(), kMaxName)};
    }
    if (!std::isfinite(value)) {
      return scheduler::Failure{scheduler::FailureClass::kUserError,
                                fmt::format("score '{}' is {}: expected a finite number", name, value)};
    }
    result.scores.emplace(name, value);
  }
  result.stopped_at_step = std::max<int64_t>(0, success.stopped_at_step());
  result.artifacts.assign(success.artifacts().begin(), success.artifacts().end());
  result.train_seconds = std::isfinite(success.train_seconds()) ? success.train_seconds() : 0;
  result.total_seconds = std::isfinite(success.total_seconds()) ? success.total_seconds() : 0;
  // For the record only: what is beyond the limits is left out or cut.
  for (const auto& [key, value] : success.provenance()) {
    if (result.provenance.size() >= kMaxProvenance) break;
    if (key.size() <= kMaxName) result.provenance.emplace(key, Cut(value));
  }
  return result;
}

}  // namespace

absl::StatusOr<scheduler::SyncRequest> FromProto(const v1::SynchronizeRequest& proto) {
  LOUPE_ASSIGN_OR_RETURN(const WorkerId worker, WorkerId::FromName(proto.worker()));
  scheduler::SyncRequest request;
  request.worker = worker.id();
  if (proto.session_id().empty() || proto.session_id().size() > 128) {
    return absl::InvalidArgumentError("session_id: expected 1 to 128 characters, random per process");
  }
  request.session = proto.session_id();
  if (proto.slots() < 1 || proto.slots() > kMaxSlots) {
    return absl::InvalidArgumentError(fmt::format("slots is {}: expected 1 to {}", proto.slots(), kMaxSlots));
  }
  request.slots = proto.slots();
  request.pack_slots = std::clamp(proto.pack_slots(), 0, kMaxSlots);
  request.draining = proto.draining();
  const v1::WorkerDescription& description = proto.description();
  request.description = {
      .hostname = Cut(description.hostname()),
      .device = Cut(description.device()),
      .version = Cut(description.version()),
      .process_id = description.process_id(),
      .threads = description.threads(),
      .memory_bytes = description.memory_bytes(),
      .abilities = description.has_abilities() ? FromProto(description.abilities()) : scheduler::WorkerAbilities()};
  if (proto.attempts_size() > kMaxReports) {
    return absl::InvalidArgumentError(
        fmt::format("{} attempts in one message: expected at most {}", proto.attempts_size(), kMaxReports));
  }
  for (const v1::AttemptReport& report : proto.attempts()) {
    scheduler::AttemptReport& converted = request.attempts.emplace_back();
    LOUPE_ASSIGN_OR_RETURN(converted.lease, FromProto(report.lease()));
    converted.phase = Cut(report.phase());
    converted.step = report.step();
    converted.total_steps = report.total_steps();
    converted.pack = std::max(0, report.pack());
    converted.point_sequence = report.point_sequence();
    if (report.points_size() > kMaxPoints || report.point_sequence() < report.points_size()) {
      return absl::InvalidArgumentError(fmt::format(
          "attempts.points: {} points with sequence number {}: expected at most {} points and the number of the last of them",
          report.points_size(), report.point_sequence(), kMaxPoints));
    }
    for (const v1::MetricPoint& point : report.points()) {
      if (point.metric().empty() || point.metric().size() > kMaxName) {
        return absl::InvalidArgumentError("attempts.points.metric: expected a name of 1 to 128 characters");
      }
      converted.points.push_back({point.metric(), point.step(), point.value()});
    }
    converted.outcome = OutcomeOf(report);
  }
  return request;
}

std::string DeterministicBytes(const google::protobuf::MessageLite& message) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  message.SerializeToCodedStream(&coded);
  coded.Trim();
  return bytes;
}

}  // namespace loupe::coordinator::api
