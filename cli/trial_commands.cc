// Commands on single trials and what they left behind: trials, trial, artifacts, download, metrics, logs.
#include <fcntl.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "analysis/report/number_format.h"
#include "analysis/report/text_table.h"
#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/failure.h"
#include "cli/logs_command.h"
#include "cli/output.h"
#include "cli/running_attempts.h"
#include "cli/sweep_name.h"
#include "cli/views.h"
#include "common/score_table.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "common/text.h"
#include "coordinator/plan/plan.h"
#include "coordinator/plan_proto/spec_proto.h"
#include "fmt/format.h"
#include "loupe/v1/sweep.grpc.pb.h"
#include "loupe/v1/trial.grpc.pb.h"

namespace loupe::cli {
namespace {

using TrialStub = v1::TrialService::StubInterface;

struct TrialFlags {
  ConnectFlags connect;
  std::string sweep;
  int64_t index = 0;
  std::vector<std::string> states;
  int64_t limit = 0;
  std::string metric;
  std::string artifact;
  std::string output;
  std::string format;
  bool as_command = false;
};

// The scores of a trial in few words; its failure where it has none.
std::string OutcomeText(const v1::Trial& trial) {
  std::string text;
  for (const auto& [name, value] : std::map<std::string, double>(trial.scores().begin(), trial.scores().end())) {
    if (IsUntunedScore(name)) continue;
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name, analysis::report::FormatNumber(value, 4));
  }
  if (text.empty() && trial.has_last_failure()) text = trial.last_failure().message();
  return text;
}

absl::StatusOr<std::vector<v1::Trial>> ListPages(const TrialFlags& flags, const clients::rpc::Connection& connection) {
  const auto stub = v1::TrialService::NewStub(connection.channel());
  v1::ListTrialsRequest request;
  LOUPE_ASSIGN_OR_RETURN(*request.mutable_parent(), SweepName(flags.sweep));
  request.set_page_size(1000);
  for (const std::string& name : flags.states) {
    v1::Trial::State state = v1::Trial::STATE_UNSPECIFIED;
    // The option's check has let only state names through.
    v1::Trial::State_Parse(name, &state);
    request.add_states(state);
  }
  std::vector<v1::Trial> trials;
  do {
    LOUPE_ASSIGN_OR_RETURN(v1::ListTrialsResponse response,
                           Call(connection, static_cast<TrialStub&>(*stub), &TrialStub::ListTrials, request));
    for (v1::Trial& trial : *response.mutable_trials()) {
      if (flags.limit > 0 && static_cast<int64_t>(trials.size()) == flags.limit) return trials;
      trials.push_back(std::move(trial));
    }
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  return trials;
}

absl::Status ListTrials(const TrialFlags& flags) {
  LOUPE_ASSIGN_OR_RETURN(const std::shared_ptr<clients::rpc::Connection> connection, Connect(flags.connect));
  LOUPE_ASSIGN_OR_RETURN(const std::vector<v1::Trial> trials, ListPages(flags, *connection));
  if (flags.format == "json") {
    nlohmann::ordered_json json;
    json["trials"] = nlohmann::ordered_json::array();
    for (const v1::Trial& trial : trials) json["trials"].push_back(TrialJson(trial));
    return WriteOutput(JsonText(json), "");
  }
  analysis::report::TextTable table({"trial", "state", "replicate", "cell", "attempts", "outcome"}, /*left_columns=*/6);
  for (const v1::Trial& trial : trials) {
    table.Add({LastPart(trial.name()), v1::Trial::State_Name(trial.state()), fmt::format("{}", trial.replicate()),
               CellText(trial.cell()), fmt::format("{}", trial.attempts()), OutcomeText(trial)});
  }
  return WriteOutput(table.Text(), "");
}

// As one word of a POSIX shell.
std::string ShellWord(std::string_view text) {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./=:,+-";
  if (!text.empty() && text.find_first_not_of(kPlain) == std::string_view::npos) return std::string(text);
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

// What a worker runs for this trial, as a command for one machine: every setting, so that another program's defaults
// have no part in it.
absl::StatusOr<std::string> CommandOf(const clients::rpc::Connection& connection, const TrialFlags& flags,
                                      const v1::Trial& trial) {
  using SweepStub = v1::SweepService::StubInterface;
  const auto stub = v1::SweepService::NewStub(connection.channel());
  v1::GetSweepRequest request;
  LOUPE_ASSIGN_OR_RETURN(*request.mutable_name(), SweepName(flags.sweep));
  LOUPE_ASSIGN_OR_RETURN(const v1::Sweep sweep,
                         Call(connection, static_cast<SweepStub&>(*stub), &SweepStub::GetSweep, request));
  LOUPE_ASSIGN_OR_RETURN(const coordinator::plan::SweepSpec spec,
                         coordinator::plan_proto::StoredSpecFromProto(sweep.spec()));
  LOUPE_ASSIGN_OR_RETURN(const coordinator::plan::Plan plan, coordinator::plan::Plan::Create(spec));
  std::string text = fmt::format("loupe-worker trial --seed {} --replicate {} --out {} --settings", plan.spec().seed,
                                 trial.replicate(), ShellWord(fmt::format("{}-{}", flags.sweep, flags.index)));
  const settings::Settings settings = plan.CellSettings(trial.cell_index());  // its map is looped over
  for (const auto& [key, value] : settings.values()) {
    text += fmt::format(" \\\n  {}", ShellWord(fmt::format("{}={}", key, value)));
  }
  return text + "\n";
}

absl::Status ShowTrial(const TrialFlags& flags) {
  LOUPE_ASSIGN_OR_RETURN(const std::shared_ptr<clients::rpc::Connection> connection, Connect(flags.connect));
  const auto stub = v1::TrialService::NewStub(connection->channel());
  v1::GetTrialRequest request;
  LOUPE_ASSIGN_OR_RETURN(*request.mutable_name(), TrialName(flags.sweep, flags.index));
  LOUPE_ASSIGN_OR_RETURN(const v1::Trial trial,
                         Call(*connection, static_cast<TrialStub&>(*stub), &TrialStub::GetTrial, request));
  if (flags.as_command) {
    LOUPE_ASSIGN_OR_RETURN(const std::string command, CommandOf(*connection, flags, trial));
    return WriteOutput(command, "");
  }
  if (flags.format == "json") return WriteOutput(JsonText(TrialJson(trial)), "");
  std::string running;
  if (trial.state() == v1::Trial::RUNNING) {
    LOUPE_ASSIGN_OR_RETURN(const auto attempts, RunningAttemptsOf(*connection, trial.name()));
    if (!attempts.empty()) running = ", " + Printable(AttemptText(attempts[0]));
  }
  std::string text = fmt::format("{}: {}\n  cell: {} (replicate {})\n  attempts: {}, lost workers: {}\n", trial.name(),
                                 v1::Trial::State_Name(trial.state()), CellText(trial.cell()), trial.replicate(),
                                 trial.attempts(), trial.worker_losses());
  if (!trial.worker().empty()) text += fmt::format("  worker: {}{}\n", LastPart(trial.worker()), running);
  for (const auto& [name, value] : std::map<std::string, double>(trial.scores().begin(), trial.scores().end())) {
    text += fmt::format("  {}: {}\n", Printable(name), analysis::report::FormatNumber(value, 6));
  }
  if (trial.has_last_failure()) {
    text += fmt::format("  last failure ({}): {}\n", v1::Failure::Class_Name(trial.last_failure().class_()),
                        Printable(trial.last_failure().message()));
  }
  return WriteOutput(text, "");
}

absl::Status ListMetrics(const TrialFlags& flags) {
  LOUPE_ASSIGN_OR_RETURN(const std::shared_ptr<clients::rpc::Connection> connection, Connect(flags.connect));
  const auto stub = v1::TrialService::NewStub(connection->channel());
  v1::ListMetricPointsRequest request;
  LOUPE_ASSIGN_OR_RETURN(*request.mutable_parent(), TrialName(flags.sweep, flags.index));
  request.set_metric(flags.metric);
  request.set_page_size(1000);
  std::string csv = "metric,step,value\n";
  nlohmann::ordered_json json;
  json["points"] = nlohmann::ordered_json::array();
  LOUPE_RETURN_IF_ERROR(CallForPages(
      *connection, static_cast<TrialStub&>(*stub), &TrialStub::ListMetricPoints, request,
      [&](const v1::ListMetricPointsResponse& page) {
        for (const v1::MetricPoint& point : page.points()) {
          csv += fmt::format("{},{},{}\n", CsvField(point.metric()), point.step(), point.value());
          json["points"].push_back({{"metric", point.metric()}, {"step", point.step()}, {"value", point.value()}});
        }
      }));
  return WriteOutput(flags.format == "json" ? JsonText(json) : csv, flags.output);
}

absl::Status ListArtifacts(const TrialFlags& flags) {
  LOUPE_ASSIGN_OR_RETURN(const std::shared_ptr<clients::rpc::Connection> connection, Connect(flags.connect));
  const auto stub = v1::TrialService::NewStub(connection->channel());
  v1::ListArtifactsRequest request;
  LOUPE_ASSIGN_OR_RETURN(*request.mutable_parent(), TrialName(flags.sweep, flags.index));
  LOUPE_ASSIGN_OR_RETURN(const v1::ListArtifactsResponse response,
                         Call(*connection, static_cast<TrialStub&>(*stub), &TrialStub::ListArtifacts, request));
  if (flags.format == "json") {
    nlohmann::ordered_json json;
    json["artifacts"] = nlohmann::ordered_json::array();
    for (const v1::Artifact& artifact : response.artifacts()) json["artifacts"].push_back(ArtifactJson(artifact));
    return WriteOutput(JsonText(json), "");
  }
  analysis::report::TextTable table({"artifact", "type", "bytes", "sha256"}, /*left_columns=*/2);
  for (const v1::Artifact& artifact : response.artifacts()) {
    table.Add({artifact.name(), artifact.media_type(), fmt::format("{}", artifact.size_bytes()),
               artifact.sha256().substr(0, 16)});
  }
  return WriteOutput(table.Text(), "");
}

// Receives an artifact into memory; its digest is checked before a byte is written anywhere.
absl::StatusOr<std::string> Download(const TrialFlags& flags, const clients::rpc::Connection& connection) {
  const auto stub = v1::TrialService::NewStub(connection.channel());
  v1::DownloadArtifactRequest request;
  LOUPE_ASSIGN_OR_RETURN(*request.mutable_trial(), TrialName(flags.sweep, flags.index));
  request.set_artifact_name(flags.artifact);
  grpc::ClientContext context;
  connection.Prepare(context, absl::Minutes(10));
  const auto reader = stub->DownloadArtifact(&context, request);
  v1::DownloadArtifactResponse message;
  std::string bytes;
  std::string sha256;
  while (reader->Read(&message)) {
    if (message.has_artifact()) sha256 = message.artifact().sha256();
    bytes += message.chunk();
  }
  LOUPE_RETURN_IF_ERROR(connection.Check(reader->Finish()));
  if (Sha256Hex(bytes) != sha256) {
    return absl::DataLossError(fmt::format("{} of trial {} arrived damaged: its digest is not the one that is stored",
                                           flags.artifact, flags.index));
  }
  return bytes;
}

absl::Status DownloadArtifact(const TrialFlags& flags) {
  LOUPE_ASSIGN_OR_RETURN(const std::shared_ptr<clients::rpc::Connection> connection, Connect(flags.connect));
  LOUPE_ASSIGN_OR_RETURN(const std::string bytes, Download(flags, *connection));
  const std::string path =
      flags.output.empty() ? fmt::format("{}-{}-{}", flags.sweep, flags.index, flags.artifact) : flags.output;
  if (path == "-") return WriteBytes(bytes, "");
  LOUPE_RETURN_IF_ERROR(WriteBytes(bytes, path));
  return WriteOutput(fmt::format("{} bytes in {}\n", bytes.size(), path), "");
}

CLI::App* AddOne(CLI::App& app, int& exit_code, const std::shared_ptr<TrialFlags>& flags, const std::string& name,
                 const std::string& description, bool needs_index, std::function<absl::Status(const TrialFlags&)> run) {
  CLI::App* command = app.add_subcommand(name, description);
  command->add_option("sweep", flags->sweep, "The sweep's name")->required();
  if (needs_index) {
    command->add_option("trial", flags->index, "The trial's number in the sweep, from 0")
        ->required()
        ->check(CLI::NonNegativeNumber);
  }
  AddConnectOptions(*command, flags->connect);
  command->callback([flags, &exit_code, run = std::move(run)] { exit_code = Fail(run(*flags)); });
  return command;
}

}  // namespace

void AddTrialCommands(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<TrialFlags>();
  CLI::App* trials =
      AddOne(app, exit_code, flags, "trials", "List a sweep's trials, their scores and failures", false, &ListTrials);
  trials->add_option("--state", flags->states, "Only trials in this state; may be repeated")
      ->transform(
          CLI::IsMember({"QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED", "QUARANTINED"}, CLI::ignore_case))
      ->delimiter(',');
  trials->add_option("--limit", flags->limit, "At most so many; 0 means all")->check(CLI::NonNegativeNumber);
  AddFormatOption(*trials, flags->format, {"text", "json"});

  flags = std::make_shared<TrialFlags>();
  CLI::App* trial = AddOne(app, exit_code, flags, "trial", "Everything about one trial", true, &ShowTrial);
  AddFormatOption(*trial, flags->format, {"text", "json"});
  trial->add_flag("--as-command", flags->as_command, "Print the command that runs this trial alone, on this machine");

  flags = std::make_shared<TrialFlags>();
  CLI::App* metrics =
      AddOne(app, exit_code, flags, "metrics", "A trial's curves: loss and scores by step", true, &ListMetrics);
  metrics->add_option("--metric", flags->metric, "Only this one, such as loss");
  AddFormatAndOutputOptions(*metrics, flags->format, flags->output, {"csv", "json"});

  flags = std::make_shared<TrialFlags>();
  AddFormatOption(*AddOne(app, exit_code, flags, "artifacts", "List what a trial left behind", true, &ListArtifacts),
                  flags->format, {"text", "json"});

  flags = std::make_shared<TrialFlags>();
  CLI::App* download =
      AddOne(app, exit_code, flags, "download", "Fetch one artifact of a trial", true, &DownloadArtifact);
  download->add_option("artifact", flags->artifact, "Its name, such as adapter.safetensors")->required();
  download->add_option("--output,-o", flags->output,
                       "File to write; '-' is standard output; default: SWEEP-TRIAL-ARTIFACT");

  AddLogsCommand(app, exit_code);
}

}  // namespace loupe::cli
