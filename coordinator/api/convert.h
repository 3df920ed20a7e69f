// Between the wire and the coordinator's plain values.
#pragma once

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/plan/plan.h"
#include "coordinator/scheduler/scheduler.h"
#include "coordinator/store/log_database.h"
#include "coordinator/store/store_reader.h"
#include "google/protobuf/duration.pb.h"
#include "google/protobuf/timestamp.pb.h"
#include "loupe/v1/sweep.pb.h"
#include "loupe/v1/trial.pb.h"
#include "loupe/v1/worker.pb.h"

namespace loupe::coordinator {

void SetTimestamp(absl::Time time, google::protobuf::Timestamp* out);
void SetDuration(absl::Duration duration, google::protobuf::Duration* out);
absl::Duration ToAbslDuration(const google::protobuf::Duration& duration);

// `with_spec` off leaves the specification out (lists, watches).
v1::Sweep ToProto(const SweepRecord& sweep, const TrialCounts& counts,
                  std::optional<absl::Duration> estimated_time_left, const std::vector<WaitingTrials>& waiting,
                  bool with_spec);
v1::WaitingTrials ToProto(const WaitingTrials& waiting);
v1::TrialCounts ToProto(const TrialCounts& counts);
v1::Trial ToProto(const SweepRecord& sweep, const TrialRow& trial);
v1::Artifact ToProto(const ArtifactRecord& artifact);
v1::Worker ToProto(const WorkerEntry& worker, const std::map<SweepKey, std::string>& sweep_ids, absl::Duration lease,
                   absl::Duration now);
v1::RunningAttempt ToProto(const SweepRecord& sweep, const RunningAttempt& attempt, const Plan& plan);
v1::LeaseKey ToProto(const DesiredAttempt& attempt);

// INVALID_ARGUMENT names the field: a bad name, a lease token that is none, non-finite scores as a failure, too many
// points.
absl::StatusOr<LeaseClaim> FromProto(const v1::LeaseKey& lease);
// The lines of a report, Printable and cut to a sensible length and number: the latest. Numbers that do not rise are
// left out.
std::vector<LogLine> LogLinesOf(const v1::AttemptReport& report);
v1::LogLine ToProto(const LogLine& line);
absl::StatusOr<SyncRequest> FromProto(const v1::SynchronizeRequest& request);

// The same bytes for the same message, whatever the order of its maps.
std::string DeterministicBytes(const google::protobuf::MessageLite& message);

}  // namespace loupe::coordinator
