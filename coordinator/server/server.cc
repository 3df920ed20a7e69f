#include "coordinator/server/server.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <limits>
#include <mutex>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "common/atomic_file.h"
#include "common/credentials.h"
#include "common/logging.h"
#include "common/private_file.h"
#include "common/status_macros.h"
#include "coordinator/access/access_watch.h"
#include "coordinator/access/audit_log.h"
#include "coordinator/api/handlers.h"
#include "coordinator/engine/sweep_versions.h"
#include "coordinator/engine/trial_needs.h"
#include "coordinator/http/front.h"
#include "coordinator/metrics/metrics.h"
#include "coordinator/notify/notifier.h"
#include "coordinator/rpc/grpc_server.h"
#include "coordinator/store/data_folder.h"
#include "coordinator/store/data_guard.h"
#include "coordinator/store/lock_file.h"
#include "coordinator/store/sqlite_store.h"
#include "fmt/format.h"

namespace loupe::coordinator::server {
namespace {

// On which bodies of calls run; they wait for the engine and the disk, never for a client. Of one client this many may
// wait.
constexpr int kPoolThreads = 16;
constexpr size_t kMostWaiting = 512;

absl::Status MakeDataFolder(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, fmt::format("cannot make the data folder '{}'", path));
}

// DATA/credentials: under TLS, what programs of the same user need beside the token. Removed where there is no TLS.
absl::Status WriteLocalCredentials(const std::string& folder, const std::string& address,
                                   const access::ServerTls& tls) {
  const std::string path = folder + "/credentials";
  if (!tls.on() || !tls.authority() || !tls.issues_own_certificate()) {
    ::unlink(path.c_str());
    return absl::OkStatus();
  }
  LOUPE_ASSIGN_OR_RETURN(std::string token, ReadFile(folder + "/token"));
  token.resize(std::min(token.size(), token.find_first_of("\r\n")));
  LOUPE_ASSIGN_OR_RETURN(const access::Certificate made,
                         tls.authority()->IssueClient("admin", access::kLongestClientCertificate));
  return WritePrivateFile(path, ToText({.comment = "the administrator, for this machine",
                                        .address = fmt::format("localhost{}", address.substr(address.rfind(':'))),
                                        .token = token,
                                        .certificate = made.certificate,
                                        .key = made.key,
                                        .authority = tls.authority()->certificate()}));
}

// The logs of the sweeps that there are.
absl::StatusOr<std::unique_ptr<store::TrialLogs>> OpenLogs(const std::string& folder, store::StoreReader& store) {
  LOUPE_ASSIGN_OR_RETURN(const std::vector<scheduler::SweepRecord> sweeps,
                         store.ListSweeps(0, std::numeric_limits<int64_t>::max()));
  std::set<std::string> uids;
  for (const scheduler::SweepRecord& sweep : sweeps) {
    if (!sweep.has_job(scheduler::JobKind::kDelete)) uids.insert(sweep.uid);
  }
  auto logs =
      std::make_unique<store::TrialLogs>(store::TrialLogs::Options{.database = {.path = folder + store::kLogsFile}});
  logs->KeepOnly(uids);
  return logs;
}

}  // namespace

constexpr char kListen[] = "--listen", kHttpListen[] = "--http-listen";
constexpr char kHttpOff[] = "off";

// Where the HTTP interface listens when nobody says: beside gRPC, for programs of this machine.
std::string HttpListenBeside(int grpc_port, const std::string& grpc_listen) {
  return fmt::format("127.0.0.1:{}", grpc_listen.ends_with(":0") || grpc_port >= 65535 ? 0 : grpc_port + 1);
}

// How a browser of this machine, or of another where others can reach it, calls it.
std::string UrlOf(const std::string& listen, int port, bool tls) {
  std::string host = listen.substr(0, listen.rfind(':'));
  if (host == "0.0.0.0" || host == "[::]") {
    char name[256] = {};
    ::gethostname(name, sizeof name - 1);
    host = name;
  }
  return fmt::format("{}://{}:{}", tls ? "https" : "http", host, port);
}

// Destroyed from the bottom up: first what serves, last the lock.
struct Server::Parts {
  std::string folder;
  std::string address;
  std::string http_address;
  std::unique_ptr<store::LockFile> lock;
  // Goes after the store, whose end makes the log part of the database.
  std::optional<store::RunningMark> running;
  std::unique_ptr<store::SqliteStore> store;
  std::unique_ptr<store::ArtifactFolder> artifacts;
  std::unique_ptr<store::TrialLogs> logs;
  loupe::trace::SpanExporter* spans = nullptr;
  std::unique_ptr<trace::SweepTraces> traces;
  engine::WorkerTelemetryTable telemetry;
  std::unique_ptr<access::AccessControl> access;
  std::unique_ptr<access::ServerTls> tls;
  // Where HTTP is reachable and gRPC is not, or the other way round.
  std::unique_ptr<access::ServerTls> own_http_tls;
  std::unique_ptr<access::AuditLog> audit;
  access::RateLimiter limiter;
  engine::SweepVersions versions;
  engine::PlanCache plans;
  http::EventFeeds feeds;
  metrics::Metrics metrics;
  std::unique_ptr<notify::Notifier> notifier;
  std::mutex health_mutex;
  bool healthy = true;
  bool stopping = false;
  std::unique_ptr<engine::Engine> engine;
  std::unique_ptr<access::OpenCalls> calls;
  std::unique_ptr<access::AccessWatch> access_watch;
  std::optional<api::Handlers> handlers;
  std::unique_ptr<engine::EngineThread> thread;
  std::unique_ptr<api::WorkPool> pool;
  std::unique_ptr<api::AnalysisRunner> analyses;
  std::unique_ptr<rpc::GrpcServer> grpc;
  std::unique_ptr<http::Front> http;

  // The engine's thread learns how commits go before there is a front end to say it, and after.
  void SetHealthy(bool is_healthy) {
    const std::lock_guard<std::mutex> lock_health(health_mutex);
    healthy = is_healthy;
    if (grpc != nullptr && !stopping) grpc->SetServing(healthy);
    if (http != nullptr && !stopping) http->SetReady(healthy);
  }

  // `listen`: as ServerOptions::http_listen. `handed`: sockets that it says the address of, or none.
  absl::Status StartHttp(std::string listen, access::ListenSockets handed, const std::string& grpc_listen);
};

Server::Server(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerOptions& options, const Clock& clock,
                                                      RandomSource& random, access::HandedSockets handed) {
  // Whom a socket lets in decides about TLS, whoever opened it.
  const std::string listen = handed.grpc.empty() ? options.listen : handed.grpc.address();
  const std::string http_listen = handed.http.empty() ? options.http_listen : handed.http.address();
  LOUPE_RETURN_IF_ERROR(MakeDataFolder(options.data_folder));
  auto parts = std::make_unique<Parts>();
  Parts& p = *parts;
  p.folder = options.data_folder;
  LOUPE_ASSIGN_OR_RETURN(p.lock, store::LockFile::Acquire(p.folder + store::kLockFile));
  LOUPE_RETURN_IF_ERROR(store::CheckDataFolder(p.folder));
  LOUPE_ASSIGN_OR_RETURN(p.store,
                         store::SqliteStore::Open({.path = p.folder + store::kDatabaseFile, .on_checkpoint = [&p] {
                                                     if (p.running) p.running->Update();
                                                   }}));
  p.running.emplace(p.folder);
  LOUPE_ASSIGN_OR_RETURN(p.artifacts, store::ArtifactFolder::Open(p.folder + store::kArtifactsFolder));
  LOUPE_ASSIGN_OR_RETURN(p.logs, OpenLogs(p.folder, *p.store));
  p.spans = options.spans;
  p.traces = std::make_unique<trace::SweepTraces>(p.folder + trace::kTracesFile, *p.store, p.spans);
  LOUPE_ASSIGN_OR_RETURN(p.access, access::AccessControl::Open(p.folder, clock));
  LOUPE_ASSIGN_OR_RETURN(p.tls, access::ServerTls::Open(options.tls, listen, p.folder));
  const bool http_is_reachable = !http_listen.empty() && http_listen != kHttpOff && !access::IsLoopback(http_listen);
  if (http_listen != kHttpOff && http_is_reachable == access::IsLoopback(listen)) {
    LOUPE_ASSIGN_OR_RETURN(p.own_http_tls, access::ServerTls::Open(
                                               options.tls, http_is_reachable ? http_listen : "127.0.0.1:0", p.folder));
  }
  LOUPE_ASSIGN_OR_RETURN(p.audit, access::AuditLog::Open(p.folder + "/audit.log"));
  LOUPE_ASSIGN_OR_RETURN(p.notifier,
                         notify::Notifier::Start(p.folder, *p.store, clock, {.command = options.notify_command}));
  p.engine = std::make_unique<engine::Engine>(
      options.scheduler,
      engine::Engine::Deps{p.store.get(), &clock, &random,
                           [&p](bool healthy) {
                             if (healthy) LogInfo("the store accepts commits again");
                             p.SetHealthy(healthy);
                           },
                           [&p](const scheduler::Effects& committed, absl::Duration took) {
                             p.metrics.NoteCommit(committed, took);
                             p.versions.Note(committed);
                             p.feeds.Note(committed);
                             p.notifier->Note(committed);
                             p.traces->Note(committed);
                           },
                           [&p](const scheduler::SweepRecord& sweep) { return engine::CellsForJob(p.plans, sweep); },
                           [&p](const scheduler::SweepRecord& sweep) { return engine::NeedsOf(p.plans, sweep); }});
  LOUPE_RETURN_IF_ERROR(p.engine->Recover());
  p.thread = std::make_unique<engine::EngineThread>(*p.engine, clock);
  p.calls = std::make_unique<access::OpenCalls>(options.limits.open, clock);
  p.access_watch = std::make_unique<access::AccessWatch>(*p.access, *p.calls, [&p] {
    p.tls->Refresh();
    if (p.own_http_tls != nullptr) p.own_http_tls->Refresh();
  });
  p.pool = std::make_unique<api::WorkPool>(kPoolThreads, kMostWaiting);
  p.analyses = std::make_unique<api::AnalysisRunner>(options.analysis, options.data_folder);
  const api::Backend backend{.engine = p.thread.get(),
                             .store = p.store.get(),
                             .artifacts = p.artifacts.get(),
                             .plans = &p.plans,
                             .logs = p.logs.get(),
                             .telemetry = &p.telemetry,
                             .clock = &clock,
                             .random = &random,
                             .access = p.access.get(),
                             .limiter = &p.limiter,
                             .calls = p.calls.get(),
                             .pool = p.pool.get(),
                             .spans = p.spans,
                             .traces = p.traces.get(),
                             .limits = options.limits,
                             .audit = [audit = p.audit.get()](const std::string& line) { audit->Append(line); }};
  p.handlers.emplace(backend, *p.tls, *p.analyses, p.versions);
  p.feeds.Serve(*p.handlers);
  if (handed.grpc.empty()) {
    LOUPE_ASSIGN_OR_RETURN(handed.grpc, access::ListenSockets::Open(listen, kListen));
  }
  LOUPE_ASSIGN_OR_RETURN(std::unique_ptr<rpc::GrpcServer> grpc,
                         rpc::GrpcServer::Start(std::move(handed.grpc), *p.tls, *p.handlers));
  {
    const std::lock_guard<std::mutex> lock_health(p.health_mutex);
    p.grpc = std::move(grpc);
    p.grpc->SetServing(p.healthy);
  }
  p.address = fmt::format("{}:{}", listen.substr(0, listen.rfind(':')), p.grpc->port());
  if (http_listen != kHttpOff) LOUPE_RETURN_IF_ERROR(p.StartHttp(http_listen, std::move(handed.http), listen));
  LOUPE_RETURN_IF_ERROR(WriteLocalCredentials(p.folder, p.address, *p.tls));
  LOUPE_RETURN_IF_ERROR(WriteFileAtomically(p.folder + "/address", p.address + "\n"));
  return std::unique_ptr<Server>(new Server(std::move(parts)));
}

absl::Status Server::Parts::StartHttp(std::string listen, access::ListenSockets handed,
                                      const std::string& grpc_listen) {
  const access::ServerTls& http_tls = own_http_tls != nullptr ? *own_http_tls : *tls;
  const http::FrontDeps deps{.handlers = *handlers, .feeds = feeds, .tls = http_tls, .metrics = [this] {
                               return metrics.Text({.engine = thread.get(),
                                                    .store = store.get(),
                                                    .calls = calls.get(),
                                                    .telemetry = &telemetry,
                                                    .spans = spans,
                                                    .database = folder + store::kDatabaseFile,
                                                    .version = LOUPE_VERSION});
                             }};
  const bool chosen = !listen.empty();
  if (!chosen) listen = HttpListenBeside(grpc->port(), grpc_listen);
  absl::StatusOr<access::ListenSockets> sockets =
      handed.empty() ? access::ListenSockets::Open(listen, kHttpListen) : std::move(handed);
  if (absl::IsAlreadyExists(sockets.status()) && !chosen) {
    listen = "127.0.0.1:0";
    sockets = access::ListenSockets::Open(listen, kHttpListen);
  }
  LOUPE_RETURN_IF_ERROR(sockets.status());
  LOUPE_ASSIGN_OR_RETURN(std::unique_ptr<http::Front> front, http::Front::Start(*std::move(sockets), {}, deps));
  http_address = UrlOf(listen, front->port(), http_tls.on());
  {
    const std::lock_guard<std::mutex> lock_health(health_mutex);
    http = std::move(front);
    http->SetReady(healthy);
  }
  return WriteFileAtomically(folder + "/http_address", http_address + "\n");
}

const std::string& Server::address() const { return parts_->address; }
const std::string& Server::http_address() const { return parts_->http_address; }

void Server::Stop(absl::Duration grace) {
  {
    const std::lock_guard<std::mutex> lock_health(parts_->health_mutex);
    if (std::exchange(parts_->stopping, true)) return;
  }
  parts_->grpc->StopAccepting();
  if (parts_->http != nullptr) parts_->http->StopAccepting();
  // Held calls would last as long as the grace: they are answered now, and again if new ones come in between.
  parts_->thread->Post([](engine::Engine& engine) { engine.CancelAll(); });
  parts_->logs->EndWaits();
  parts_->analyses->Stop();
  parts_->grpc->Shutdown(grace);
  // What both had to end has had that time.
  if (parts_->http != nullptr) parts_->http->Stop(absl::Milliseconds(500));
  ::unlink((parts_->folder + "/http_address").c_str());
  ::unlink((parts_->folder + "/address").c_str());
}

Server::~Server() {
  Stop(absl::Seconds(2));
  // Every reply must have reached its call before the front ends go away; what still waits in the pool asks the engine.
  parts_->analyses.reset();
  parts_->pool.reset();
  parts_->thread.reset();
}

}  // namespace loupe::coordinator::server
