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

namespace loupe::coordinator::api {

void SetTimestamp(absl::Time time, google::protobuf::Timestamp* out);
void SetDuration(absl::Duration duration, google::protobuf::Duration* out);
absl::Duration ToAbslDuration(const google::protobuf::Duration& duration);

// `with_spec` off leaves the specification out (lists, watches).
v1::Sweep ToProto(const scheduler::SweepRecord& sweep, const scheduler::TrialCounts& counts,
                  std::optional<absl::Duration> estimated_time_left,
                  const std::vector<scheduler::WaitingTrials>& waiting, bool with_spec);
v1::WaitingTrials ToProto(const scheduler::WaitingTrials& waiting);
v1::TrialCounts ToProto(const scheduler::TrialCounts& counts);
v1::Trial ToProto(const scheduler::SweepRecord& sweep, const store::TrialRow& trial);
v1::Artifact ToProto(const scheduler::ArtifactRecord& artifact);
v1::Worker ToProto(const scheduler::WorkerEntry& worker, const std::map<scheduler::SweepKey, std::string>& sweep_ids,
                   absl::Duration lease, absl::Duration now);
v1::RunningAttempt ToProto(const scheduler::SweepRecord& sweep, const scheduler::RunningAttempt& attempt,
                           const plan::Plan& plan);
v1::LeaseKey ToProto(const scheduler::DesiredAttempt& attempt);

// INVALID_ARGUMENT names the field: a bad name, a lease token that is none, non-finite scores as a failure, too many
// points.
absl::StatusOr<scheduler::LeaseClaim> FromProto(const v1::LeaseKey& lease);
// The lines of a report, Printable and cut to a sensible length and number: the latest. Numbers that do not rise are
// left out.
std::vector<store::LogLine> LogLinesOf(const v1::AttemptReport& report);
v1::LogLine ToProto(const store::LogLine& line);
absl::StatusOr<scheduler::SyncRequest> FromProto(const v1::SynchronizeRequest& request);

// The same bytes for the same message, whatever the order of its maps.
std::string DeterministicBytes(const google::protobuf::MessageLite& message);

}  // namespace loupe::coordinator::api
