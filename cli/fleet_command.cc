// `loupe fleet slurm`: workers on a Slurm cluster, as one array job.
#include <limits.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "analysis/report/text_table.h"
#include "cli/child_process.h"
#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/failure.h"
#include "cli/output.h"
#include "cli/run_program.h"
#include "cli/slurm_fleet.h"
#include "cli/views.h"
#include "common/atomic_file.h"
#include "common/credentials.h"
#include "common/pack_options.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "loupe/v1/worker.grpc.pb.h"

namespace loupe::cli {
namespace {

constexpr int kMostWorkers = 10'000;

struct FleetFlags {
  ConnectFlags connect;
  SlurmFleetOptions slurm;
  std::string state_folder;
  std::string format;
  bool print = false;
  int workers = 0;
};

std::string DefaultStateFolder() {
  if (const char* config = std::getenv("XDG_CONFIG_HOME"); config != nullptr && *config != '\0')
    return std::string(config) + "/loupe/fleets";
  const char* home = std::getenv("HOME");
  return std::string(home == nullptr ? "." : home) + "/.config/loupe/fleets";
}

std::string StateFile(const FleetFlags& flags) {
  return fmt::format("{}/{}.json", flags.state_folder, flags.slurm.fleet);
}

// Runs one of Slurm's programs; its words for what went wrong are the best there are.
absl::StatusOr<std::string> Slurm(const std::vector<std::string>& words) {
  absl::StatusOr<ProgramEnd> end = RunProgram(words);
  if (absl::IsNotFound(end.status())) {
    return absl::FailedPreconditionError(
        fmt::format("there is no '{}' here: run this where Slurm's commands are, as a rule on a login node", words[0]));
  }
  if (!end.ok()) return end.status();
  if (end->exit_code != 0) {
    return absl::InternalError(fmt::format("{} failed ({}): {}", words[0], end->exit_code,
                                           std::string(absl::StripAsciiWhitespace(end->errors))));
  }
  return std::move(end->output);
}

absl::StatusOr<SlurmFleet> ReadFleet(const FleetFlags& flags) {
  const std::string path = StateFile(flags);
  const absl::StatusOr<std::string> text = ReadFile(path);
  if (absl::IsNotFound(text.status())) {
    return absl::NotFoundError(fmt::format("there is no fleet '{}' in '{}': 'loupe fleet slurm up' starts one",
                                           flags.slurm.fleet, flags.state_folder));
  }
  LOUPE_RETURN_IF_ERROR(text.status());
  return ParseSlurmFleet(*text, path);
}

absl::StatusOr<std::vector<SlurmTask>> TasksOf(const SlurmFleet& fleet) {
  LOUPE_ASSIGN_OR_RETURN(const std::string text, Slurm(SqueueWords(fleet.fleet)));
  return ParseSqueue(text, {fleet.jobs.begin(), fleet.jobs.end()});
}

struct Workers {
  // By SLURM_JOB_ID.
  std::map<std::string, v1::Worker> of_job;
  int64_t wanted = 0;
  int64_t available = 0;
};

absl::StatusOr<Workers> ConnectedWorkers(const FleetFlags& flags) {
  LOUPE_ASSIGN_OR_RETURN(const std::shared_ptr<clients::rpc::Connection> connection, Connect(flags.connect));
  const auto stub = v1::WorkerService::NewStub(connection->channel());
  Workers workers;
  bool first = true;
  LOUPE_RETURN_IF_ERROR(CallForPages(*connection, static_cast<v1::WorkerService::StubInterface&>(*stub),
                                     &v1::WorkerService::StubInterface::ListWorkers, v1::ListWorkersRequest(),
                                     [&](const v1::ListWorkersResponse& page) {
                                       if (std::exchange(first, false)) {
                                         workers.wanted = page.wanted_workers();
                                         workers.available = page.available_workers();
                                       }
                                       for (const v1::Worker& worker : page.workers()) {
                                         const std::optional<std::string> job = JobOfWorker(LastPart(worker.name()));
                                         // A requeued job was other workers before.
                                         if (job && worker.state() != v1::Worker::LOST) workers.of_job[*job] = worker;
                                       }
                                     }));
  return workers;
}

std::string Absolute(const std::string& path) {
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(path, error);
  return error ? path : absolute.lexically_normal().string();
}

// What has to be right on this machine before anything is submitted. The nodes are taken to see the same files.
absl::StatusOr<SlurmFleetOptions> Prepare(const FleetFlags& flags) {
  SlurmFleetOptions options = flags.slurm;
  LOUPE_RETURN_IF_ERROR(CheckSlurmOptions(options));
  if (options.worker_program.empty()) {
    LOUPE_ASSIGN_OR_RETURN(options.worker_program, ProgramBeside("loupe-worker"));
  }
  options.worker_program = Absolute(options.worker_program);
  if (options.credentials.empty()) {
    return absl::InvalidArgumentError(
        "the workers need credentials: --worker-credentials FILE, as 'loupe-coordinator token add --role worker|enrol "
        "-o FILE' writes it, in a folder that the nodes see");
  }
  options.credentials = Absolute(options.credentials);
  // Also refuses a file that others may read.
  LOUPE_RETURN_IF_ERROR(ReadCredentials(options.credentials).status());
  if (!options.worker_data.empty()) options.worker_data = Absolute(options.worker_data);
  if (options.log_folder.empty()) options.log_folder = fmt::format("{}/{}-logs", flags.state_folder, options.fleet);
  options.log_folder = Absolute(options.log_folder);
  return options;
}

// Submits the fleet's script with such options of sbatch, and notes the job, which is in Slurm's hands from then on:
// what goes wrong later must not hide its number.
absl::StatusOr<std::string> Submit(const FleetFlags& flags, SlurmFleet& fleet, std::vector<std::string> options) {
  options.insert(options.begin(), {"sbatch", "--parsable"});
  options.push_back(fleet.script);
  absl::StatusOr<std::string> said = Slurm(options);
  // A busy controller may take a job and answer too late.
  if (!said.ok() && !absl::IsFailedPrecondition(said.status()))
    return Annotate(said.status(),
                    fmt::format("nothing is noted as submitted; 'squeue --name={}' shows what Slurm took all the same",
                                SlurmJobName(fleet.fleet)));
  LOUPE_RETURN_IF_ERROR(said.status());
  LOUPE_ASSIGN_OR_RETURN(const std::string job, ParseSbatch(*said));
  fleet.jobs.push_back(job);
  LOUPE_RETURN_IF_ERROR(
      Annotate(WriteFileAtomically(StateFile(flags), ToJson(fleet), 0600),
               fmt::format("job {} is submitted and could not be noted: scancel {} ends it", job, job)));
  return job;
}

absl::Status Up(const FleetFlags& flags) {
  LOUPE_ASSIGN_OR_RETURN(const SlurmFleetOptions options, Prepare(flags));
  const std::string script = SlurmScript(options);
  if (flags.print) return WriteBytes(script, "");
  if (const absl::StatusOr<SlurmFleet> there = ReadFleet(flags); there.ok()) {
    return absl::FailedPreconditionError(
        fmt::format("the fleet '{}' is there already (job {}): 'loupe fleet slurm scale N' changes it, 'down' ends it, "
                    "--fleet gives another one a name",
                    options.fleet, fmt::join(there->jobs, ", ")));
  } else if (!absl::IsNotFound(there.status())) {
    return there.status();
  }
  std::error_code error;
  std::filesystem::create_directories(flags.state_folder, error);
  if (!error) std::filesystem::create_directories(options.log_folder, error);
  if (error)
    return absl::FailedPreconditionError(fmt::format("cannot make the folders '{}' and '{}': {}", flags.state_folder,
                                                     options.log_folder, error.message()));
  SlurmFleet fleet{.fleet = options.fleet,
                   .script = Absolute(fmt::format("{}/{}.sbatch", flags.state_folder, options.fleet)),
                   .array_limit = options.array_limit};
  LOUPE_RETURN_IF_ERROR(WriteFileAtomically(fleet.script, script, 0600));
  LOUPE_ASSIGN_OR_RETURN(const std::string job, Submit(flags, fleet, {}));
  return WriteOutput(fmt::format("job {}: {} worker{}{}; 'loupe fleet slurm status' shows them, logs in {}\n", job,
                                 options.workers, options.workers == 1 ? "" : "s",
                                 options.array_limit > 0 ? fmt::format(", {} at a time", options.array_limit) : "",
                                 options.log_folder),
                     "");
}

nlohmann::ordered_json StatusJson(const SlurmFleet& fleet, const std::vector<SlurmTask>& tasks,
                                  const absl::StatusOr<Workers>& workers) {
  nlohmann::ordered_json json;
  json["fleet"] = fleet.fleet;
  json["jobs"] = fleet.jobs;
  json["wanted_workers"] = workers.ok() ? nlohmann::ordered_json(workers->wanted) : nlohmann::ordered_json();
  json["available_workers"] = workers.ok() ? nlohmann::ordered_json(workers->available) : nlohmann::ordered_json();
  json["tasks"] = nlohmann::ordered_json::array();
  for (const SlurmTask& task : tasks) {
    nlohmann::ordered_json entry = {
        {"task", task.name()},         {"job", task.id},        {"state", task.state}, {"node", task.node},
        {"time_left", task.time_left}, {"reason", task.reason}, {"worker", nullptr}};
    if (workers.ok()) {
      if (const auto found = workers->of_job.find(task.id); found != workers->of_job.end() && !task.pending())
        entry["worker"] = WorkerJson(found->second);
    }
    json["tasks"].push_back(std::move(entry));
  }
  return json;
}

std::string StatusText(const SlurmFleet& fleet, const std::vector<SlurmTask>& tasks,
                       const absl::StatusOr<Workers>& workers) {
  if (tasks.empty())
    return fmt::format("{}: Slurm has no task of job {} any more; 'loupe fleet slurm down' forgets the fleet\n",
                       fleet.fleet, fmt::join(fleet.jobs, ", "));
  std::map<std::string, int> states;
  analysis::report::TextTable table({"task", "Slurm", "node", "time left", "worker", "runs"}, /*left_columns=*/6);
  int connected = 0;
  for (const SlurmTask& task : tasks) {
    ++states[task.state];
    std::string worker = workers.ok() ? "" : "?";
    std::vector<std::string> running;
    if (workers.ok() && !task.pending()) {
      if (const auto found = workers->of_job.find(task.id); found != workers->of_job.end()) {
        ++connected;
        worker = v1::Worker::State_Name(found->second.state());
        running.assign(found->second.running().begin(), found->second.running().end());
      }
    }
    table.Add({task.name(), task.pending() ? fmt::format("{} {}", task.state, task.reason) : task.state, task.node,
               task.time_left, worker, fmt::format("{}", fmt::join(running, " "))});
  }
  std::vector<std::string> counts;
  counts.reserve(states.size());
  for (const auto& [state, count] : states) counts.push_back(fmt::format("{} {}", count, absl::AsciiStrToLower(state)));
  std::string text = table.Text() + fmt::format("{} tasks: {}", tasks.size(), fmt::join(counts, ", "));
  if (workers.ok())
    text += fmt::format("; {} of them connected. In all {} workers take trials, {} would have enough to do", connected,
                        workers->available, workers->wanted);
  return text + "\n";
}

absl::Status Status(const FleetFlags& flags) {
  LOUPE_ASSIGN_OR_RETURN(const SlurmFleet fleet, ReadFleet(flags));
  LOUPE_ASSIGN_OR_RETURN(const std::vector<SlurmTask> tasks, TasksOf(fleet));
  const absl::StatusOr<Workers> workers = ConnectedWorkers(flags);
  LOUPE_RETURN_IF_ERROR(WriteOutput(
      flags.format == "json" ? JsonText(StatusJson(fleet, tasks, workers)) : StatusText(fleet, tasks, workers), ""));
  // What Slurm says is shown all the same.
  return workers.status();
}

absl::Status Cancel(const std::vector<std::string>& tasks) {
  if (tasks.empty()) return absl::OkStatus();
  std::vector<std::string> words = {"scancel"};
  words.insert(words.end(), tasks.begin(), tasks.end());
  return Slurm(words).status();
}

absl::Status Scale(const FleetFlags& flags) {
  LOUPE_ASSIGN_OR_RETURN(SlurmFleet fleet, ReadFleet(flags));
  LOUPE_ASSIGN_OR_RETURN(const std::vector<SlurmTask> tasks, TasksOf(fleet));
  const int now = static_cast<int>(tasks.size());
  if (now == flags.workers) return WriteOutput(fmt::format("{}: {} workers already\n", fleet.fleet, now), "");
  if (now < flags.workers) {
    const int more = flags.workers - now;
    LOUPE_ASSIGN_OR_RETURN(const std::string job,
                           Submit(flags, fleet, {"--array=" + SlurmArray(more, fleet.array_limit)}));
    return WriteOutput(fmt::format("{}: job {} brings {} more\n", fleet.fleet, job, more), "");
  }
  std::set<std::string> idle;
  if (const absl::StatusOr<Workers> workers = ConnectedWorkers(flags); workers.ok()) {
    for (const auto& [job, worker] : workers->of_job) {
      if (worker.running().empty()) idle.insert(job);
    }
  }
  std::vector<std::string> names;
  for (const SlurmTask& task : TasksToCancel(tasks, idle, static_cast<size_t>(now - flags.workers)))
    names.push_back(task.name());
  LOUPE_RETURN_IF_ERROR(Cancel(names));
  return WriteOutput(
      fmt::format("{}: {} tasks are cancelled; their workers hand back what they run\n", fleet.fleet, names.size()),
      "");
}

absl::Status Down(const FleetFlags& flags) {
  LOUPE_ASSIGN_OR_RETURN(const SlurmFleet fleet, ReadFleet(flags));
  LOUPE_ASSIGN_OR_RETURN(const std::vector<SlurmTask> tasks, TasksOf(fleet));
  std::set<std::string> jobs;
  for (const SlurmTask& task : tasks) jobs.insert(task.job);
  LOUPE_RETURN_IF_ERROR(Cancel({jobs.begin(), jobs.end()}));
  std::error_code ignored;
  std::filesystem::remove(StateFile(flags), ignored);
  std::filesystem::remove(fleet.script, ignored);
  return WriteOutput(
      fmt::format("{}: {} tasks are cancelled; their workers hand back what they run\n", fleet.fleet, tasks.size()),
      "");
}

void AddFleetOptions(CLI::App& command, FleetFlags& flags) {
  command.add_option("--fleet", flags.slurm.fleet, "The fleet's name, where there are several")->capture_default_str();
  flags.state_folder = DefaultStateFolder();
  command.add_option("--state", flags.state_folder,
                     "Folder in which the fleet's jobs are noted (default: ~/.config/loupe/fleets)");
}

using FleetVerb = absl::Status (*)(const FleetFlags&);

CLI::App* AddVerb(CLI::App& slurm, const char* name, const char* description, FleetVerb verb,
                  const std::shared_ptr<FleetFlags>& flags, int& exit_code) {
  CLI::App* command = slurm.add_subcommand(name, description);
  AddFleetOptions(*command, *flags);
  command->callback([flags, verb, &exit_code] { exit_code = Fail(verb(*flags)); });
  return command;
}

void AddUp(CLI::App& slurm, int& exit_code) {
  const auto flags = std::make_shared<FleetFlags>();
  SlurmFleetOptions& options = flags->slurm;
  CLI::App* up = AddVerb(slurm, "up", "Submit one array job of workers", Up, flags, exit_code);
  up->add_option("--workers,-n", options.workers, "Tasks of the array: workers in all")
      ->required()
      ->check(CLI::Range(1, kMostWorkers));
  up->add_option("--array-limit", options.array_limit,
                 "Of which so many run at a time: where one ends by its time limit the next begins")
      ->check(CLI::Range(1, kMostWorkers));
  up->add_option("--partition,-p", options.partition, "Slurm's partition (default: the cluster's)");
  up->add_option("--gpus-per-worker", options.gpus_per_worker,
                 "GPUs of each worker; without any it works on the CPU. Several are for trials with train.devices: the "
                 "worker is one job step then, with a task for each GPU")
      ->check(CLI::Range(0, 1024));
  up->add_option("--ranks-per-worker", options.ranks_per_worker, "The same on CPUs: tasks of each worker's job step")
      ->check(CLI::Range(1, 1024));
  up->add_option("--nodes-per-worker", options.nodes_per_worker, "Nodes over which a worker's tasks are spread evenly")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  up->add_option("--cpus-per-worker", options.cpus_per_worker, "Cores of each worker, or of each of its tasks")
      ->check(CLI::Range(1, 4096));
  up->add_option("--mem", options.memory, "Memory of each worker on each node, as Slurm writes it: 32G");
  up->add_option("--time", options.time, "Time limit of each worker, as Slurm writes it: 4:00:00");
  up->add_option("--sbatch", options.sbatch, "A further option in sbatch's own words: --sbatch '--account=lab'")
      ->allow_extra_args(false);
  up->add_option("--setup", options.setup, "A line of shell to run before the worker: --setup 'module load cuda'")
      ->allow_extra_args(false);
  AddPackOptions(*up, options.packs);
  up->add_option("--worker-credentials", options.credentials,
                 "Credentials file of a worker or an enrolment, mode 600, in a folder that the nodes see");
  up->add_option("--worker-program", options.worker_program,
                 "loupe-worker's path on the nodes (default: beside this program)");
  up->add_option(
      "--worker-data", options.worker_data,
      "Folder of caches and checkpoints; where all nodes see it, a trial goes on where it stopped, anywhere");
  up->add_option("--logs", options.log_folder, "Folder of the jobs' logs (default: beside the fleet's file)");
  up->add_option("--until-idle", options.until_idle, "A worker leaves after so long without a trial")
      ->capture_default_str();
  up->add_option("--grace", options.grace_seconds,
                 "Seconds from a signal to a worker's end; less than Slurm's KillWait, after which it kills")
      ->check(CLI::Range(4, 3600))
      ->capture_default_str();
  up->add_flag("--print", flags->print, "Print the batch script and submit nothing");
}

}  // namespace

void AddFleetCommand(CLI::App& app, int& exit_code) {
  CLI::App* fleet = app.add_subcommand("fleet", "Start and end workers on a cluster");
  fleet->require_subcommand(1);
  CLI::App* slurm = fleet->add_subcommand("slurm", "Workers as tasks of one array job of Slurm");
  slurm->require_subcommand(1);
  AddUp(*slurm, exit_code);
  const auto status = std::make_shared<FleetFlags>();
  CLI::App* show = AddVerb(*slurm, "status", "The fleet's tasks and what their workers run", Status, status, exit_code);
  AddFormatOption(*show, status->format, {"text", "json"});
  AddConnectOptions(*show, status->connect);
  const auto scale = std::make_shared<FleetFlags>();
  CLI::App* change =
      AddVerb(*slurm, "scale", "Submit more workers, or cancel those that cost least", Scale, scale, exit_code);
  change->add_option("workers", scale->workers, "Waiting and running ones together")
      ->required()
      ->check(CLI::Range(0, kMostWorkers));
  AddConnectOptions(*change, scale->connect);
  AddVerb(*slurm, "down", "Cancel all jobs of the fleet; what runs is handed back", Down,
          std::make_shared<FleetFlags>(), exit_code);
}

}  // namespace loupe::cli
