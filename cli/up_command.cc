// `loupe up` and `loupe down`: a coordinator and workers on this machine, as child processes of one command.
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/exit_code.h"
#include "cli/failure.h"
#include "cli/interrupt.h"
#include "cli/supervisor.h"
#include "common/atomic_file.h"
#include "common/clock.h"
#include "common/credentials.h"
#include "common/http_post.h"
#include "common/pack_options.h"
#include "common/private_file.h"
#include "common/status_macros.h"
#include "coordinator/access/access.h"
#include "coordinator/store/upkeep/snapshots.h"
#include "fmt/format.h"

namespace loupe::cli {
namespace {

constexpr absl::Duration kStartTimeout = absl::Seconds(30);
// A worker writes a checkpoint before it goes; the coordinator waits for its own calls to end.
constexpr absl::Duration kStopGrace = absl::Seconds(20);
constexpr int kMaxWorkers = 1024;

struct UpFlags {
  std::string data = kDefaultDataFolder;
  std::string listen = clients::rpc::kDefaultAddress;
  int workers = -1;
  std::string device = "auto";
  int threads = 0;
  PackOptions packs;
  bool detach = false;
  // Regular snapshots; none when `backup_to` is empty.
  std::string backup_to;
  std::string backup_every = "1h";
  int backup_keep = 24;
};

// The devices of the workers, one each.
struct WorkerPlan {
  std::vector<std::string> devices;
  int threads = 1;
};

// GPUs that the driver shows as device files. What is usable is the worker's to find out; this only counts.
int CountGpus() {
  int count = 0;
  while (std::filesystem::exists(fmt::format("/dev/nvidia{}", count))) ++count;
  return count;
}

WorkerPlan PlanWorkers(const UpFlags& flags) {
  const int gpus = flags.device == "auto" ? CountGpus() : 0;
  const int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  const int workers = flags.workers >= 0 ? flags.workers : gpus > 0 ? gpus : std::min(2, cores);
  WorkerPlan plan;
  for (int i = 0; i < workers; ++i) {
    plan.devices.push_back(flags.device != "auto" ? flags.device : gpus > 0 ? fmt::format("cuda:{}", i % gpus) : "cpu");
  }
  plan.threads = flags.threads > 0 ? flags.threads : std::max(1, cores / std::max(1, workers));
  return plan;
}

// Held as long as this process lives: one `up` per folder. Carries the process id for `loupe down`.
absl::Status LockFolder(const std::string& data) {
  const std::string path = data + "/up.pid";
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return absl::ErrnoToStatus(errno, fmt::format("cannot write '{}': {}", path, std::strerror(errno)));
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    const std::string pid(absl::StripAsciiWhitespace(ReadFile(path).value_or("?")));
    close(fd);
    return absl::FailedPreconditionError(fmt::format(
        "a 'loupe up' runs in '{}' already (process {}); use it, end it with 'loupe down', or give another --data",
        data, pid));
  }
  const std::string pid = fmt::format("{}\n", getpid());
  if (ftruncate(fd, 0) != 0 || write(fd, pid.data(), pid.size()) != static_cast<ssize_t>(pid.size())) {
    return absl::ErrnoToStatus(errno, fmt::format("cannot write '{}': {}", path, std::strerror(errno)));
  }
  // Left open on purpose: the lock is the open file.
  return absl::OkStatus();
}

absl::Status PrepareFolder(const UpFlags& flags) {
  std::error_code error;
  std::filesystem::create_directories(flags.data + "/logs", error);
  if (!error) std::filesystem::create_directories(flags.data + "/work", error);
  if (error)
    return absl::FailedPreconditionError(fmt::format("cannot make the folder '{}': {}", flags.data, error.message()));
  // It holds a token.
  std::filesystem::permissions(flags.data, std::filesystem::perms::owner_all, error);
  LOUPE_RETURN_IF_ERROR(LockFolder(flags.data));
  // Left by a coordinator that was killed; a new one writes it when it listens.
  std::filesystem::remove(flags.data + "/" + kAddressFile, error);
  return absl::OkStatus();
}

// Tells the process that started a detached `up` how the start went; nothing otherwise.
class StartReport {
 public:
  explicit StartReport(int fd) : fd_(fd) {}
  void Send(const std::string& text) {
    if (fd_ < 0) return;
    [[maybe_unused]] const ssize_t written = write(fd_, text.data(), text.size());
    close(fd_);
    fd_ = -1;
  }

 private:
  int fd_;
};

absl::Status AddWorkers(const UpFlags& flags, const WorkerPlan& plan, const std::string& address,
                        Supervisor& supervisor) {
  if (plan.devices.empty()) return absl::OkStatus();
  LOUPE_ASSIGN_OR_RETURN(const std::string program, ProgramBeside("loupe-worker"));
  // Each has a token of its own, which is good for its name alone; the administrator's stays with this command.
  std::error_code error;
  std::filesystem::create_directories(flags.data + "/work/credentials", error);
  const absl::StatusOr<Credentials> local = ReadCredentials(flags.data + "/" + kCredentialsFile);
  if (!local.ok() && !absl::IsNotFound(local.status())) return local.status();
  for (size_t i = 0; i < plan.devices.size(); ++i) {
    const std::string name = fmt::format("local-{}", i + 1);
    Credentials credentials = local.value_or(Credentials{.address = address});
    credentials.comment = fmt::format("the worker '{}'", name);
    LOUPE_ASSIGN_OR_RETURN(credentials.token, coordinator::access::AccessControl::ReplaceWorkerToken(flags.data, name));
    const std::string file = fmt::format("{}/work/credentials/{}.pem", flags.data, name);
    LOUPE_RETURN_IF_ERROR(WritePrivateFile(file, ToText(credentials)));
    LOUPE_RETURN_IF_ERROR(
        supervisor.Add("worker " + name,
                       {.program = program,
                        .arguments = {"run", "--credentials", file, "--data", flags.data + "/work", "--id", name,
                                      "--device", plan.devices[i], "--threads", fmt::format("{}", plan.threads),
                                      "--slots", flags.packs.slots, "--passes", flags.packs.passes},
                        .log_path = fmt::format("{}/logs/worker-{}.log", flags.data, i + 1)},
                       /*essential=*/false));
  }
  return absl::OkStatus();
}

// "http://127.0.0.1:7118" of the coordinator that runs; empty where it has no page.
std::string PageAddress(const UpFlags& flags) {
  const absl::StatusOr<std::string> text = ReadFile(flags.data + "/http_address");
  return text.ok() ? text->substr(0, text->find('\n')) : "";
}

ChildCommand CoordinatorCommand(const UpFlags& flags, const std::string& program, const std::string& listen,
                                const std::string& page) {
  ChildCommand command{.program = program,
                       .arguments = {"--listen", listen, "--data", flags.data},
                       .log_path = flags.data + "/logs/coordinator.log"};
  if (const size_t scheme = page.find("://"); scheme != std::string::npos)
    command.arguments.insert(command.arguments.end(), {"--http-listen", page.substr(scheme + 3)});
  if (!flags.backup_to.empty()) {
    command.arguments.insert(command.arguments.end(),
                             {"--backup-to", flags.backup_to, "--backup-every", flags.backup_every, "--backup-keep",
                              fmt::format("{}", flags.backup_keep)});
  }
  return command;
}

absl::Status Serve(const UpFlags& flags, StartReport report) {
  LOUPE_RETURN_IF_ERROR(PrepareFolder(flags));
  const WorkerPlan plan = PlanWorkers(flags);
  LOUPE_ASSIGN_OR_RETURN(const std::string coordinator, ProgramBeside("loupe-coordinator"));
  if (!plan.devices.empty()) LOUPE_RETURN_IF_ERROR(ProgramBeside("loupe-worker").status());
  std::atomic<int> signals = 0;
  InterruptWatch interrupt([&](int) { ++signals; });
  const auto say = [](const std::string& line) {
    fmt::print("{}\n", line);
    std::fflush(stdout);
  };
  Supervisor supervisor(SystemClock(), say);
  LOUPE_RETURN_IF_ERROR(
      supervisor.Add("coordinator", CoordinatorCommand(flags, coordinator, flags.listen, ""), /*essential=*/true));
  LOUPE_ASSIGN_OR_RETURN(const std::string address,
                         supervisor.AwaitFile("coordinator", flags.data + "/" + kAddressFile, kStartTimeout,
                                              [&] { return interrupt.interrupted(); }));
  // With port 0 the first start has chosen one; later starts must come back where the workers look for them, and where
  // a page is open.
  const std::string page = PageAddress(flags);
  supervisor.SetCommand("coordinator", CoordinatorCommand(flags, coordinator, address, page));
  LOUPE_RETURN_IF_ERROR(AddWorkers(flags, plan, address, supervisor));
  const std::string started = fmt::format(
      "coordinator at {}{}, {} worker{}{}; logs in {}/logs", address,
      page.empty() ? "" : fmt::format(" (HTTP at {})", page), plan.devices.size(), plan.devices.size() == 1 ? "" : "s",
      plan.devices.empty()
          ? ""
          : fmt::format(" ({}, {} thread{} each)", plan.devices.front(), plan.threads, plan.threads == 1 ? "" : "s"),
      flags.data);
  say(started + (flags.detach ? "" : "; Ctrl-C stops them"));
  report.Send(started + "\n");
  absl::Status status;
  while (!interrupt.interrupted() && status.ok()) {
    status = supervisor.Tick();
    usleep(200000);
  }
  say("stopping");
  supervisor.Stop(kStopGrace, [&] { return signals > 1; });
  std::error_code error;
  std::filesystem::remove(flags.data + "/" + kAddressFile, error);
  return status;
}

int RunHere(const UpFlags& flags) { return Fail(Serve(flags, StartReport(-1))); }

// Starts the same in a process of its own and returns when that serves, or could not.
int RunDetached(const UpFlags& flags) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return Fail(absl::ErrnoToStatus(errno, "cannot make a pipe"));
  std::error_code error;
  std::filesystem::create_directories(flags.data + "/logs", error);
  const std::string log = flags.data + "/logs/up.log";
  const int log_fd = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (log_fd < 0)
    return Fail(absl::ErrnoToStatus(errno, fmt::format("cannot write '{}': {}", log, std::strerror(errno))));
  const pid_t pid = fork();
  if (pid < 0) return Fail(absl::ErrnoToStatus(errno, "cannot start a process"));
  if (pid == 0) {
    close(ends[0]);
    setsid();
    const int null = open("/dev/null", O_RDONLY);
    dup2(null, STDIN_FILENO);
    dup2(log_fd, STDOUT_FILENO);
    dup2(log_fd, STDERR_FILENO);
    const absl::Status status = Serve(flags, StartReport(ends[1]));
    // Only a start that failed is still listened to.
    StartReport(ends[1]).Send("!" + std::string(status.message()));
    std::exit(Fail(status));
  }
  close(ends[1]);
  close(log_fd);
  std::string report;
  char buffer[512];
  ssize_t count = 0;
  while ((count = read(ends[0], buffer, sizeof buffer)) > 0) report.append(buffer, static_cast<size_t>(count));
  close(ends[0]);
  if (report.empty() || report.front() == '!') {
    return Fail(absl::FailedPreconditionError(report.empty() ? fmt::format("it ended at once; see '{}'", log)
                                                             : report.substr(1)));
  }
  fmt::print("{}'loupe down' stops them\n", report);
  return kOk;
}

// Whether a `loupe up` holds the folder.
bool IsUp(const std::string& data) {
  const int fd = open((data + "/up.pid").c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool held = flock(fd, LOCK_EX | LOCK_NB) != 0;
  close(fd);
  return held;
}

absl::Status Down(const std::string& data) {
  if (!IsUp(data)) return absl::NotFoundError(fmt::format("no 'loupe up' runs in '{}'", data));
  LOUPE_ASSIGN_OR_RETURN(const std::string text, ReadFile(data + "/up.pid"));
  int pid = 0;
  if (!absl::SimpleAtoi(text, &pid) || pid <= 1)
    return absl::InternalError(fmt::format("'{}/up.pid' holds no process id", data));
  if (kill(pid, SIGTERM) != 0)
    return absl::ErrnoToStatus(errno, fmt::format("cannot stop process {}: {}", pid, std::strerror(errno)));
  const absl::Duration deadline = SystemClock().MonotonicNow() + 3 * kStopGrace;
  while (IsUp(data)) {
    if (SystemClock().MonotonicNow() > deadline)
      return absl::DeadlineExceededError(fmt::format("process {} does not stop", pid));
    usleep(50000);
  }
  fmt::print("stopped\n");
  return absl::OkStatus();
}

}  // namespace

void AddUpCommand(CLI::App& app, int& exit_code) {
  CLI::App* up = app.add_subcommand("up", "Start a coordinator and workers on this machine");
  const auto flags = std::make_shared<UpFlags>();
  up->add_option("--data", flags->data, "Folder of the database, artifacts, logs and the token")->capture_default_str();
  up->add_option("--workers,-n", flags->workers, "Workers; default: one per GPU, else two that share the cores")
      ->check(CLI::Range(0, kMaxWorkers));
  up->add_option("--device", flags->device, "Where workers run: auto (GPUs where there are any), cpu, cuda:N")
      ->check(CLI::Validator(
          [](std::string& device) {
            const bool good =
                device == "auto" || device == "cpu" ||
                (device.starts_with("cuda:") && device.size() > 5 && device.size() < 9 &&
                 std::all_of(device.begin() + 5, device.end(), [](char c) { return c >= '0' && c <= '9'; }));
            return good ? std::string() : fmt::format("'{}' is not a device: expected auto, cpu or cuda:N", device);
          },
          "DEVICE"))
      ->capture_default_str();
  up->add_option("--threads", flags->threads, "Cores of each worker; default: this machine's, shared between them")
      ->check(CLI::Range(1, 1024));
  AddPackOptions(*up, flags->packs);
  up->add_option("--listen", flags->listen, "The coordinator's host:port; port 0 takes a free one")
      ->capture_default_str();
  up->add_flag("--detach,-d", flags->detach, "Return when they run, and leave them running");
  constexpr char kSnapshots[] = "Snapshots";
  up->add_option("--backup-to", flags->backup_to, "Folder for regular snapshots of the data; none are made without it")
      ->group(kSnapshots);
  up->add_option("--backup-every", flags->backup_every, "Time between snapshots: 30m, 1h, …")
      ->check(CLI::Validator(
          [](std::string& text) {
            return std::string(coordinator::store::upkeep::ParseSnapshotInterval(text).status().message());
          },
          "TIME"))
      ->capture_default_str()
      ->group(kSnapshots);
  up->add_option("--backup-keep", flags->backup_keep, "How many snapshots are kept")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str()
      ->group(kSnapshots);
  const auto endpoint = std::make_shared<std::string>();
  up->add_option("--otlp-endpoint", *endpoint,
                 "Collector that gets the spans of coordinator and workers: http://localhost:4318 (else "
                 "OTEL_EXPORTER_OTLP_ENDPOINT, else none)")
      ->check(
          CLI::Validator([](std::string& url) { return std::string(ParseHttpUrl(url).status().message()); }, "URL"));
  up->callback([flags, endpoint, &exit_code] {
    // As the programs that it starts read it.
    if (!endpoint->empty()) setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint->c_str(), /*replace=*/1);
    exit_code = flags->detach ? RunDetached(*flags) : RunHere(*flags);
  });

  CLI::App* down = app.add_subcommand("down", "Stop what 'loupe up' started");
  const auto data = std::make_shared<std::string>(kDefaultDataFolder);
  down->add_option("--data", *data, "Its folder")->capture_default_str();
  down->callback([data, &exit_code] { exit_code = Fail(Down(*data)); });
}

}  // namespace loupe::cli
