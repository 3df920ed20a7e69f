#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>

#include "clients/rpc/connection.h"
#include "common/clock.h"
#include "common/credentials.h"
#include "common/ids.h"
#include "common/logging.h"
#include "common/pack_options.h"
#include "common/random_source.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/agent/agent.h"
#include "worker/agent/enrolment.h"
#include "worker/agent/grpc_coordinator_client.h"
#include "worker/agent/leave.h"
#include "worker/commands/commands.h"
#include "worker/commands/step_flags.h"
#include "worker/executor/attempt_log.h"
#include "worker/executor/trial_executor.h"

namespace loupe::worker::commands {
namespace {

struct RunFlags {
  clients::rpc::ConnectOptions connect;
  std::string data_folder;
  std::string scratch_folder;
  std::string id;
  std::string device = "auto";
  std::string step_file;
  int threads = 0;
  PackOptions packs;
  bool graphs = false;
  double grace_seconds = 20;
  std::string until;
  std::string until_idle;
  std::string otlp_endpoint;
  std::string log_level;
  std::string log_format;
};

std::string Hostname() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "unknown";
}

// The host's name as a part of a worker's id: letters, digits, dots and dashes only.
std::string HostId() {
  std::string id = Hostname().substr(0, 48);
  for (char& c : id) {
    c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '.') c = '-';
  }
  return id;
}

std::string DefaultDataFolder() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr) return std::string(cache) + "/loupe";
  if (const char* home = std::getenv("HOME"); home != nullptr) return std::string(home) + "/.cache/loupe";
  return "loupe-worker-data";
}

// Where a worker that was started in a Slurm job by somebody's own script takes its end from. `loupe fleet slurm` gives
// a length instead, since the clock may be another machine's.
constexpr char kSlurmJobEnd[] = "SLURM_JOB_END_TIME";

absl::Status PlanLeave(const RunFlags& flags, agent::AgentOptions& options) {
  std::string until = flags.until;
  if (const char* end = std::getenv(kSlurmJobEnd); until.empty() && end != nullptr) until = end;
  const absl::StatusOr<absl::Duration> left = agent::TimeLeft(until, SystemClock().WallNow());
  if (!left.ok()) return Annotate(left.status(), flags.until.empty() ? kSlurmJobEnd : "--until");
  agent::LeaveBy(*left, absl::Seconds(flags.grace_seconds), SystemClock().MonotonicNow(), options);
  const absl::StatusOr<absl::Duration> idle = agent::TimeLeft(flags.until_idle, SystemClock().WallNow());
  if (!idle.ok()) return Annotate(idle.status(), "--until-idle");
  options.until_idle = *idle;
  return absl::OkStatus();
}

absl::Status RunWorker(RunFlags flags) {
  LOUPE_RETURN_IF_ERROR(InitLogging("loupe-worker", flags.log_level, flags.log_format));
  executor::TrialExecutorOptions work{.device = flags.device, .threads = flags.threads};
  LOUPE_ASSIGN_OR_RETURN(const bool served, ServeInStep(flags.step_file, work));
  if (served) return absl::OkStatus();
  executor::TellAttemptsWhatIsLogged();
  agent::CatchLeaveSignals();
  agent::AgentOptions options;
  LOUPE_RETURN_IF_ERROR(PlanLeave(flags, options));
  if (flags.data_folder.empty()) flags.data_folder = DefaultDataFolder();
  LOUPE_ASSIGN_OR_RETURN(clients::rpc::ConnectOptions connect, clients::rpc::ResolveConnectOptions(flags.connect));
  std::unique_ptr<agent::Identity> identity;
  if (connect.token.starts_with(kEnrolmentPrefix)) {
    LOUPE_ASSIGN_OR_RETURN(identity, agent::Identity::Take(connect, flags.data_folder, flags.id, HostId()));
    flags.id = identity->id();
    connect = identity->ConnectAs(connect);
  }
  if (flags.id.empty()) flags.id = fmt::format("{}-{}", HostId(), ::getpid());
  LOUPE_ASSIGN_OR_RETURN(const WorkerId id, WorkerId::FromId(flags.id));
  SetLogField("worker", id.id());
  LOUPE_ASSIGN_OR_RETURN(std::shared_ptr<clients::rpc::Connection> connection, clients::rpc::Connection::Open(connect));
  if (identity != nullptr) identity->KeepRenewed(connection);
  work.cache_folder = flags.data_folder + "/cache";
  work.slots = flags.packs.slots == "auto" ? 0 : std::stoi(flags.packs.slots);
  using Passes = executor::TrialExecutorOptions::Passes;
  const std::string& passes = flags.packs.passes;
  work.passes = passes == "own" ? Passes::kOwn : passes == "shared" ? Passes::kShared : Passes::kByDevice;
  work.graphs = flags.graphs;
  LOUPE_ASSIGN_OR_RETURN(const auto executor, executor::MakeTrialExecutor(work));
  agent::GrpcCoordinatorClient client(std::move(connection));
  options.worker = id.name();
  options.hostname = Hostname();
  options.version = LOUPE_VERSION;
  options.threads = flags.threads > 0 ? flags.threads : static_cast<int32_t>(std::thread::hardware_concurrency());
  options.memory_bytes = ::sysconf(_SC_PHYS_PAGES) * ::sysconf(_SC_PAGESIZE);
  options.data_folder = flags.data_folder;
  options.scratch_folder = flags.scratch_folder;
  LOUPE_ASSIGN_OR_RETURN(const std::unique_ptr<trace::SpanExporter> spans,
                         trace::SpanExporter::Start(
                             {.endpoint = flags.otlp_endpoint, .service = "loupe-worker", .version = LOUPE_VERSION}));
  agent::Agent agent(options, {&client, executor.get(), &SystemClock(), &SystemRandom(), spans.get()});
  const agent::LeaveOnSignal leave_on_signal(agent, absl::Seconds(flags.grace_seconds));
  LogInfo("{} on {}, coordinator {}", options.worker, executor->DeviceDescription(), connect.address);
  absl::Status status = agent.Run();
  if (identity != nullptr && absl::IsUnauthenticated(status)) {
    status = Annotate(
        status, fmt::format("this worker's own token in '{}' is refused: if it is to work again, delete that file and "
                            "start it with an enrolment",
                            identity->file()));
  }
  return status;
}

}  // namespace

void AddRunCommand(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand("run", "Take trials from a coordinator, train them, hand in the results");
  const auto flags = std::make_shared<RunFlags>();
  command->add_option("--coordinator,--address", flags->connect.address,
                      "host:port (default: LOUPE_ADDRESS, or " + std::string(clients::rpc::kDefaultAddress) + ")");
  command->add_option(
      "--credentials", flags->connect.credentials_file,
      "Credentials file: address, token and certificates in one (default: LOUPE_CREDENTIALS). One of an enrolment "
      "gives this worker its own, which it keeps in DATA/credentials");
  command->add_option("--token-file", flags->connect.token_file, "File with a worker's or an enrolment's token");
  command->add_option("--ca-file", flags->connect.ca_file, "PEM file: use TLS");
  command->add_option("--cert-file", flags->connect.certificate_file, "PEM file of this worker's certificate");
  command->add_option("--key-file", flags->connect.key_file, "PEM file of its key");
  command->add_option(
      "--data", flags->data_folder,
      "Folder for caches and checkpoints; workers of one machine may share it (default: ~/.cache/loupe)");
  command->add_option(
      "--scratch", flags->scratch_folder,
      "Folder for files that are handed over and deleted, a disk of this machine (default: DATA/workers)");
  command->add_option("--id", flags->id, "This worker's name, unlike any other's (default: host and process id)");
  command
      ->add_option("--device", flags->device,
                   "auto, cpu, cuda or cuda:N; several, as cuda:0,cuda:1, for trials with train.devices")
      ->capture_default_str();
  AddStepOption(*command, flags->step_file);
  command->add_option("--threads", flags->threads, "CPU threads; 0: all cores")->check(CLI::NonNegativeNumber);
  AddPackOptions(*command, flags->packs);
  AddGraphsOption(*command, flags->graphs);
  command
      ->add_option(
          "--grace", flags->grace_seconds,
          "Seconds from SIGTERM, SIGUSR2 or SIGHUP to this worker's end: what runs may finish in the first half "
          "(all but 30 s of a longer grace), and is else handed back with a checkpoint")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option(
      "--until", flags->until,
      "When this worker must be gone: 90m, 4:00:00, 1-12:00:00 from now, 2026-11-28T18:00:00, ten digits of Unix time "
      "(default: SLURM_JOB_END_TIME, or never). It hands back in time and takes no trial that it could do nothing for");
  command->add_option("--until-idle", flags->until_idle, "Leave after so long without a trial: 10m (default: never)");
  command->add_option("--otlp-endpoint", flags->otlp_endpoint,
                      "Collector that gets the spans of traced attempts: http://localhost:4318 (else "
                      "OTEL_EXPORTER_OTLP_ENDPOINT, else none)");
  command->add_option("--log-level", flags->log_level, "trace, debug, info, warn, error or off");
  command->add_option("--log-format", flags->log_format, "text, or json: an object per line (else LOUPE_LOG_FORMAT)")
      ->check(CLI::IsMember({"text", "json"}));
  command->callback([flags, &exit_code] { exit_code = Report("run", RunWorker(*flags)); });
}

}  // namespace loupe::worker::commands
