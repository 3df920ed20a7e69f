// Commands on workers: workers, drain, undrain.
#include <memory>
#include <string>
#include <vector>

#include "analysis/report/text_table.h"
#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/failure.h"
#include "cli/output.h"
#include "cli/sweep_name.h"
#include "cli/time_text.h"
#include "cli/views.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "loupe/v1/worker.grpc.pb.h"

namespace loupe::cli {
namespace {

using WorkerStub = v1::WorkerService::StubInterface;

struct WorkerFlags {
  ConnectFlags connect;
  std::string worker;
  std::string format;
};

absl::Status ListWorkers(const WorkerFlags& flags) {
  LOUPE_ASSIGN_OR_RETURN(const std::shared_ptr<clients::rpc::Connection> connection, Connect(flags.connect));
  const auto stub = v1::WorkerService::NewStub(connection->channel());
  std::vector<v1::Worker> workers;
  std::vector<v1::WaitingTrials> waiting;
  LOUPE_RETURN_IF_ERROR(CallForPages(*connection, static_cast<WorkerStub&>(*stub), &WorkerStub::ListWorkers,
                                     v1::ListWorkersRequest(), [&](v1::ListWorkersResponse& page) {
                                       for (v1::Worker& worker : *page.mutable_workers())
                                         workers.push_back(std::move(worker));
                                       for (v1::WaitingTrials& trials : *page.mutable_waiting())
                                         waiting.push_back(std::move(trials));
                                     }));
  if (flags.format == "json") {
    nlohmann::ordered_json json;
    json["workers"] = nlohmann::ordered_json::array();
    for (const v1::Worker& worker : workers) json["workers"].push_back(WorkerJson(worker));
    json["waiting"] = nlohmann::ordered_json::array();
    for (const v1::WaitingTrials& trials : waiting)
      json["waiting"].push_back({{"sweep", trials.sweep()}, {"trials", trials.trials()}, {"reason", trials.reason()}});
    return WriteOutput(JsonText(json), "");
  }
  if (workers.empty()) return WriteOutput("no workers have been seen yet; 'loupe up' starts some\n", "");
  analysis::report::TextTable table(
      {"worker", "state", "device", "host", "methods", "running", "done", "failed", "last seen"},
      /*left_columns=*/6);
  for (const v1::Worker& worker : workers) {
    std::vector<std::string> running;
    for (const std::string& trial : worker.running()) {
      // "sweeps/quickstart/trials/7" -> "quickstart/7"
      const std::string sweep = trial.substr(0, trial.find("/trials/"));
      running.push_back(fmt::format("{}/{}", LastPart(sweep), LastPart(trial)));
    }
    table.Add({LastPart(worker.name()), v1::Worker::State_Name(worker.state()), worker.description().device(),
               worker.description().hostname(),
               fmt::format("{}", fmt::join(worker.description().abilities().methods(), " ")),
               fmt::format("{}", fmt::join(running, " ")), fmt::format("{}", worker.trials_succeeded()),
               fmt::format("{}", worker.trials_failed()), TimeText(Seconds(worker.since_last_sync())) + " ago"});
  }
  std::string text = table.Text();
  for (const v1::WaitingTrials& trials : waiting)
    text += fmt::format("{}: {}\n", LastPart(trials.sweep()), WaitingText(trials));
  return WriteOutput(text, "");
}

using WorkerVerb = grpc::Status (WorkerStub::*)(grpc::ClientContext*, const v1::WorkerVerbRequest&, v1::Worker*);

absl::Status RunVerb(const WorkerFlags& flags, WorkerVerb verb) {
  LOUPE_ASSIGN_OR_RETURN(const std::shared_ptr<clients::rpc::Connection> connection, Connect(flags.connect));
  const auto stub = v1::WorkerService::NewStub(connection->channel());
  v1::WorkerVerbRequest request;
  LOUPE_ASSIGN_OR_RETURN(*request.mutable_name(), WorkerName(flags.worker));
  LOUPE_ASSIGN_OR_RETURN(const v1::Worker worker, Call(*connection, static_cast<WorkerStub&>(*stub), verb, request));
  if (flags.format == "json") return WriteOutput(JsonText(WorkerJson(worker)), "");
  return WriteOutput(fmt::format("{}: {}\n", LastPart(worker.name()), v1::Worker::State_Name(worker.state())), "");
}

}  // namespace

void AddWorkerCommands(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<WorkerFlags>();
  CLI::App* list = app.add_subcommand("workers", "List the workers and what they run");
  AddFormatOption(*list, flags->format, {"text", "json"});
  AddConnectOptions(*list, flags->connect);
  list->callback([flags, &exit_code] { exit_code = Fail(ListWorkers(*flags)); });

  const auto add_verb = [&](const char* name, const char* description, WorkerVerb verb) {
    auto verb_flags = std::make_shared<WorkerFlags>();
    CLI::App* command = app.add_subcommand(name, description);
    command->add_option("worker", verb_flags->worker, "The worker's name")->required();
    AddFormatOption(*command, verb_flags->format, {"text", "json"});
    AddConnectOptions(*command, verb_flags->connect);
    command->callback([verb_flags, verb, &exit_code] { exit_code = Fail(RunVerb(*verb_flags, verb)); });
  };
  add_verb("drain", "Let a worker finish what it runs and give it nothing new", &WorkerStub::DrainWorker);
  add_verb("undrain", "Give a drained worker trials again", &WorkerStub::UndrainWorker);
}

}  // namespace loupe::cli
