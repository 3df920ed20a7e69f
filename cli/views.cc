#include "cli/views.h"

#include <map>

#include "common/text.h"
#include "fmt/format.h"
#include "google/protobuf/util/time_util.h"

namespace loupe::cli {
namespace {

using Json = nlohmann::ordered_json;

Json Time(bool has, const google::protobuf::Timestamp& time) {
  return has ? Json(google::protobuf::util::TimeUtil::ToString(time)) : Json(nullptr);
}

// Sorted, so that the same state always prints the same way.
template <typename Value>
Json SortedMap(const google::protobuf::Map<std::string, Value>& map) {
  Json json = Json::object();
  for (const auto& [key, value] : std::map<std::string, Value>(map.begin(), map.end())) json[key] = value;
  return json;
}

}  // namespace

std::string JsonText(const Json& json, int indent) {
  return PrintableJson(json.dump(indent, ' ', false, Json::error_handler_t::replace)) + "\n";
}

double Seconds(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) + static_cast<double>(duration.nanos()) * 1e-9;
}

std::string LastPart(const std::string& name) {
  const size_t slash = name.rfind('/');
  return slash == std::string::npos ? name : name.substr(slash + 1);
}

std::string CellText(const google::protobuf::Map<std::string, std::string>& cell) {
  std::string text;
  for (const auto& [factor, level] : std::map<std::string, std::string>(cell.begin(), cell.end())) {
    text += fmt::format("{}{}={}", text.empty() ? "" : " ", factor, level);
  }
  return text;
}

std::string WaitingText(const v1::WaitingTrials& waiting) {
  return fmt::format("{} trial{} wait{}: {}", waiting.trials(), waiting.trials() == 1 ? "" : "s",
                     waiting.trials() == 1 ? "s" : "", waiting.reason());
}

bool IsTerminal(v1::Sweep::State state) {
  return state == v1::Sweep::COMPLETED || state == v1::Sweep::STOPPED || state == v1::Sweep::CANCELLED;
}

int64_t EndedTrials(const v1::TrialCounts& counts) {
  return counts.succeeded() + counts.failed() + counts.cancelled() + counts.quarantined();
}

Json SweepJson(const v1::Sweep& sweep) {
  Json json;
  json["name"] = sweep.name();
  json["title"] = sweep.spec().display_name();
  json["state"] = v1::Sweep::State_Name(sweep.state());
  json["state_reason"] = sweep.state_reason();
  json["waiting"] = Json::array();
  for (const v1::WaitingTrials& waiting : sweep.waiting())
    json["waiting"].push_back({{"trials", waiting.trials()}, {"reason", waiting.reason()}});
  const v1::TrialCounts& counts = sweep.counts();
  json["counts"] = {{"total", counts.total()},
                    {"queued", counts.queued()},
                    {"running", counts.running()},
                    {"succeeded", counts.succeeded()},
                    {"failed", counts.failed()},
                    {"cancelled", counts.cancelled()},
                    {"quarantined", counts.quarantined()}};
  json["cells"] = sweep.cell_count();
  json["replicates"] = sweep.spec().replicates();
  json["priority"] = sweep.spec().priority();
  json["factors"] = Json::array();
  for (const v1::Factor& factor : sweep.spec().factors()) {
    json["factors"].push_back(
        {{"key", factor.key()}, {"levels", std::vector<std::string>(factor.levels().begin(), factor.levels().end())}});
  }
  for (const v1::Method& method : sweep.spec().methods()) {
    Json& added =
        json["methods"].emplace_back(Json{{"label", method.label()}, {"settings", SortedMap(method.settings())}});
    added["factors"] = Json::array();
    for (const v1::Factor& factor : method.factors()) {
      added["factors"].push_back(
          {{"key", factor.key()},
           {"levels", std::vector<std::string>(factor.levels().begin(), factor.levels().end())}});
    }
  }
  json["seconds_left"] = sweep.has_estimated_time_left() ? Json(Seconds(sweep.estimated_time_left())) : Json(nullptr);
  json["create_time"] = Time(sweep.has_create_time(), sweep.create_time());
  json["update_time"] = Time(sweep.has_update_time(), sweep.update_time());
  json["end_time"] = Time(sweep.has_end_time(), sweep.end_time());
  json["etag"] = sweep.etag();
  return json;
}

Json TrialJson(const v1::Trial& trial) {
  Json json;
  json["name"] = trial.name();
  json["state"] = v1::Trial::State_Name(trial.state());
  json["cell"] = SortedMap(trial.cell());
  json["cell_index"] = trial.cell_index();
  json["replicate"] = trial.replicate();
  json["scores"] = SortedMap(trial.scores());
  if (trial.stopped_at_step() > 0) json["stopped_at_step"] = trial.stopped_at_step();
  json["failure"] = nullptr;
  if (trial.has_last_failure()) {
    json["failure"] = {{"class", v1::Failure::Class_Name(trial.last_failure().class_())},
                       {"message", trial.last_failure().message()}};
  }
  json["attempts"] = trial.attempts();
  json["worker_losses"] = trial.worker_losses();
  json["worker"] = trial.worker();
  json["start_time"] = Time(trial.has_start_time(), trial.start_time());
  json["end_time"] = Time(trial.has_end_time(), trial.end_time());
  return json;
}

namespace {

// null for an older program, and for one that is lost; what it does not know, or has not done yet, is null too.
Json TelemetryJson(const v1::Worker& worker) {
  if (!worker.has_telemetry()) return nullptr;
  const v1::WorkerTelemetry& telemetry = worker.telemetry();
  const auto known = [](double value) { return value > 0 ? Json(value) : Json(nullptr); };
  Json json;
  json["memory_bytes"] = telemetry.memory_bytes();
  json["cpu_seconds"] = telemetry.cpu_seconds();
  json["busy_cores"] = telemetry.busy_cores();
  json["steps"] = telemetry.steps();
  json["step_seconds"] = known(telemetry.step_seconds());
  json["pictures"] = telemetry.pictures();
  json["pictures_per_second"] = known(telemetry.pictures_per_second());
  json["gpus"] = Json::array();
  for (const v1::GpuTelemetry& gpu : telemetry.gpus()) {
    json["gpus"].push_back({{"device", gpu.device()},
                            {"memory_used_bytes", gpu.memory_used_bytes()},
                            {"memory_total_bytes", gpu.memory_total_bytes()},
                            {"utilization", gpu.has_utilization() ? Json(gpu.utilization()) : Json(nullptr)}});
  }
  return json;
}

}  // namespace

Json WorkerJson(const v1::Worker& worker) {
  Json json;
  json["name"] = worker.name();
  json["state"] = v1::Worker::State_Name(worker.state());
  json["hostname"] = worker.description().hostname();
  json["device"] = worker.description().device();
  json["version"] = worker.description().version();
  json["process_id"] = worker.description().process_id();
  json["threads"] = worker.description().threads();
  json["memory_bytes"] = worker.description().memory_bytes();
  const v1::WorkerAbilities& abilities = worker.description().abilities();
  const auto list = [](const auto& values) { return std::vector<std::string>(values.begin(), values.end()); };
  json["abilities"] = {{"settings_version", abilities.settings_version()},
                       {"methods", list(abilities.methods())},
                       {"tasks", list(abilities.tasks())},
                       {"bases", list(abilities.bases())},
                       {"devices", list(abilities.devices())},
                       {"device_memory_bytes", abilities.device_memory_bytes()},
                       {"half_precisions", list(abilities.half_precisions())}};
  json["slots"] = worker.slots();
  json["running"] = std::vector<std::string>(worker.running().begin(), worker.running().end());
  json["seconds_since_last_sync"] = Seconds(worker.since_last_sync());
  json["first_seen_time"] = Time(worker.has_first_seen_time(), worker.first_seen_time());
  json["trials_succeeded"] = worker.trials_succeeded();
  json["trials_failed"] = worker.trials_failed();
  json["telemetry"] = TelemetryJson(worker);
  return json;
}

Json RunningJson(const v1::RunningAttempt& attempt) {
  Json json;
  json["trial"] = attempt.trial();
  json["worker"] = attempt.worker();
  json["epoch"] = attempt.epoch();
  json["cell"] = SortedMap(attempt.cell());
  json["replicate"] = attempt.replicate();
  json["phase"] = attempt.phase();
  json["step"] = attempt.step();
  json["total_steps"] = attempt.total_steps();
  json["pack"] = attempt.pack();
  json["metrics"] = SortedMap(attempt.metrics());
  json["seconds"] = Seconds(attempt.elapsed());
  return json;
}

std::string AttemptText(const v1::RunningAttempt& attempt) {
  std::string text = attempt.phase();
  if (attempt.total_steps() > 0) text += fmt::format(" {}/{}", attempt.step(), attempt.total_steps());
  if (attempt.pack() > 1) text += fmt::format(", pack of {}", attempt.pack());
  return text;
}

Json ArtifactJson(const v1::Artifact& artifact) {
  return {{"name", artifact.name()},
          {"media_type", artifact.media_type()},
          {"size_bytes", artifact.size_bytes()},
          {"sha256", artifact.sha256()},
          {"epoch", artifact.epoch()}};
}

}  // namespace loupe::cli
