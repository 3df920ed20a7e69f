// The coordinator's resources as JSON objects (keys in docs/cli.md) and as lines of text.
#pragma once

#include <string>

#include "google/protobuf/duration.pb.h"
#include "google/protobuf/timestamp.pb.h"
#include "loupe/v1/sweep.pb.h"
#include "loupe/v1/trial.pb.h"
#include "loupe/v1/worker.pb.h"
#include "nlohmann/json.hpp"

namespace loupe::cli {

// Times are RFC 3339 text, durations seconds; what is not set is null.
nlohmann::ordered_json SweepJson(const v1::Sweep& sweep);
nlohmann::ordered_json TrialJson(const v1::Trial& trial);
nlohmann::ordered_json WorkerJson(const v1::Worker& worker);
nlohmann::ordered_json RunningJson(const v1::RunningAttempt& attempt);
nlohmann::ordered_json ArtifactJson(const v1::Artifact& artifact);

// Any JSON as text that a terminal may show: indented, or one line where `indent` is -1; bytes that are not UTF-8 are
// replaced.
std::string JsonText(const nlohmann::ordered_json& json, int indent = 2);

// "input=SA_in output=FFN_in", ordered by name.
std::string CellText(const google::protobuf::Map<std::string, std::string>& cell);

// "train 120/400, pack of 4": what an attempt is at, and with how many others it is trained, where it has company.
std::string AttemptText(const v1::RunningAttempt& attempt);

// "12 trials wait: method lora, and no connected worker runs it".
std::string WaitingText(const v1::WaitingTrials& waiting);

// "sweeps/quickstart/trials/7" -> "7"; "workers/w1" -> "w1": what people type.
std::string LastPart(const std::string& name);

double Seconds(const google::protobuf::Duration& duration);

// Whether nothing will run any more.
bool IsTerminal(v1::Sweep::State state);
// Trials that need nothing more: with a result or given up.
int64_t EndedTrials(const v1::TrialCounts& counts);

}  // namespace loupe::cli
