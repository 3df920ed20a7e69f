#include <pthread.h>
#include <unistd.h>

#include <csignal>
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
#include "common/random_source.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "spdlog/spdlog.h"
#include "worker/agent/agent.h"
#include "worker/agent/enrolment.h"
#include "worker/agent/grpc_coordinator_client.h"
#include "worker/commands/commands.h"
#include "worker/executor/trial_executor.h"

namespace loupe::worker {
namespace {

struct RunFlags {
  ConnectOptions connect;
  std::string data_folder;
  std::string id;
  std::string device = "auto";
  int threads = 0;
  std::string slots = "1";
  double grace_seconds = 20;
  std::string log_level;
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

sigset_t EndSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  return signals;
}

// SIGTERM: finish what runs if that takes no longer than `grace`, else stop it (it keeps its checkpoint). SIGINT or a
// second signal: stop it at once. The signals must be blocked in every thread.
class SignalThread {
 public:
  SignalThread(Agent& agent, double grace_seconds)
      : thread_([this, &agent, grace_seconds] { Wait(agent, grace_seconds); }) {}
  ~SignalThread() {
    ended_ = true;
    // Wakes sigwait; nobody else waits for it any more.
    pthread_kill(thread_.native_handle(), SIGTERM);
    thread_.join();
  }

 private:
  void Wait(Agent& agent, double grace_seconds) {
    const sigset_t signals = EndSignals();
    int signal = 0;
    sigwait(&signals, &signal);
    if (ended_) return;
    if (signal == SIGTERM && grace_seconds > 0) {
      spdlog::info("finishing what runs (for at most {} s); a second signal stops it", grace_seconds);
      agent.RequestDrain();
      const auto nanos = static_cast<int64_t>(grace_seconds * 1e9);
      const timespec grace{static_cast<time_t>(nanos / 1'000'000'000), static_cast<long>(nanos % 1'000'000'000)};
      sigtimedwait(&signals, nullptr, &grace);
      if (ended_) return;
    }
    spdlog::info("stopping");
    agent.RequestStop();
    sigwait(&signals, &signal);
    if (ended_) return;
    spdlog::warn("killed by a further signal");
    std::_Exit(128 + signal);
  }

  std::atomic<bool> ended_{false};
  std::thread thread_;
};

absl::Status RunWorker(RunFlags flags) {
  LOUPE_RETURN_IF_ERROR(InitLogging("loupe-worker", flags.log_level));
  // Before any thread is made, so that all inherit it.
  const sigset_t signals = EndSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  if (flags.data_folder.empty()) flags.data_folder = DefaultDataFolder();
  LOUPE_ASSIGN_OR_RETURN(ConnectOptions connect, ResolveConnectOptions(flags.connect));
  std::unique_ptr<Identity> identity;
  if (connect.token.starts_with(kEnrolmentPrefix)) {
    LOUPE_ASSIGN_OR_RETURN(identity, Identity::Take(connect, flags.data_folder, flags.id, HostId()));
    flags.id = identity->id();
    connect = identity->ConnectAs(connect);
  }
  if (flags.id.empty()) flags.id = fmt::format("{}-{}", HostId(), ::getpid());
  LOUPE_ASSIGN_OR_RETURN(const WorkerId id, WorkerId::FromId(flags.id));
  LOUPE_ASSIGN_OR_RETURN(std::shared_ptr<Connection> connection, Connection::Open(connect));
  if (identity != nullptr) identity->KeepRenewed(connection);
  LOUPE_ASSIGN_OR_RETURN(const auto executor,
                         MakeTrialExecutor({.device = flags.device,
                                            .threads = flags.threads,
                                            .cache_folder = flags.data_folder + "/cache",
                                            .slots = flags.slots == "auto" ? 0 : std::stoi(flags.slots)}));
  GrpcCoordinatorClient client(std::move(connection));
  AgentOptions options;
  options.worker = id.name();
  options.hostname = Hostname();
  options.version = LOUPE_VERSION;
  options.threads = flags.threads > 0 ? flags.threads : static_cast<int32_t>(std::thread::hardware_concurrency());
  options.memory_bytes = ::sysconf(_SC_PHYS_PAGES) * ::sysconf(_SC_PAGESIZE);
  options.data_folder = flags.data_folder;
  Agent agent(options, {&client, executor.get(), &SystemClock(), &SystemRandom()});
  const SignalThread signal_thread(agent, flags.grace_seconds);
  spdlog::info("{} on {}, coordinator {}", options.worker, executor->DeviceDescription(), connect.address);
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
                      "host:port (default: LOUPE_ADDRESS, or " + std::string(kDefaultAddress) + ")");
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
  command->add_option("--id", flags->id, "This worker's name, unlike any other's (default: host and process id)");
  command->add_option("--device", flags->device, "auto, cpu, cuda or cuda:N")->capture_default_str();
  command->add_option("--threads", flags->threads, "CPU threads; 0: all cores")->check(CLI::NonNegativeNumber);
  command
      ->add_option("--slots", flags->slots,
                   "Trials to train together, where they fit each other: a number, or auto: as many as memory holds")
      ->check(CLI::IsMember({"auto"}) | CLI::Range(1, 1024))
      ->capture_default_str();
  command->add_option("--grace", flags->grace_seconds, "Seconds that SIGTERM gives a running trial to finish")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--log-level", flags->log_level, "trace, debug, info, warn, error or off");
  command->callback([flags, &exit_code] { exit_code = Report("run", RunWorker(*flags)); });
}

}  // namespace loupe::worker
