#include "coordinator/service/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <mutex>
#include <optional>

#include "absl/synchronization/mutex.h"
#include "common/atomic_file.h"
#include "common/credentials.h"
#include "common/private_file.h"
#include "common/status_macros.h"
#include "coordinator/service/access_service.h"
#include "coordinator/service/access_watch.h"
#include "coordinator/service/analysis_service.h"
#include "coordinator/service/audit_log.h"
#include "coordinator/service/listener.h"
#include "coordinator/service/sweep_service.h"
#include "coordinator/service/sweep_versions.h"
#include "coordinator/service/trial_needs.h"
#include "coordinator/service/trial_service.h"
#include "coordinator/service/worker_service.h"
#include "coordinator/store/data_folder.h"
#include "coordinator/store/data_guard.h"
#include "coordinator/store/lock_file.h"
#include "coordinator/store/sqlite_store.h"
#include "fmt/format.h"
#include "spdlog/spdlog.h"

namespace loupe::coordinator {
namespace {

constexpr int kMaxMessageBytes = 4 << 20;
// Threads of gRPC's own for reflection, the one service that holds a thread for each stream.
constexpr int kMaxThreads = 16;
// On which bodies of calls run; they wait for the engine and the disk, never for a client. Of one client this many may
// wait.
constexpr int kPoolThreads = 16;
constexpr size_t kMostWaiting = 512;
// Of one connection. Clients queue what is beyond.
constexpr int kMaxStreams = 4096;
// What clients have sent and nobody has read: gRPC looks at a message's size when it has all of it. Beyond this it ends
// calls and connections, whose clients try again.
constexpr size_t kMemoryBytes = 512 << 20;
// How much a client may send before it is read. gRPC would let it grow with the line's speed, to tens of megabytes for
// each connection, read or not. An upload over 50 ms of distance still makes 20 MB/s.
constexpr int kWindowBytes = 1 << 20;
// Workers and watchers always have a call open; others connect again when they need to.
constexpr int kIdleMs = 10 * 60 * 1000;
constexpr int kKeepaliveMs = 60 * 1000;
constexpr int kKeepaliveTimeoutMs = 20 * 1000;
constexpr int kHandshakeMs = 20 * 1000;

absl::Status MakeDataFolder(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, fmt::format("cannot make the data folder '{}'", path));
}

// DATA/credentials: under TLS, what programs of the same user need beside the token. Removed where there is no TLS.
absl::Status WriteLocalCredentials(const std::string& folder, const std::string& address, const ServerTls& tls) {
  const std::string path = folder + "/credentials";
  if (!tls.on() || !tls.authority() || !tls.issues_own_certificate()) {
    ::unlink(path.c_str());
    return absl::OkStatus();
  }
  LOUPE_ASSIGN_OR_RETURN(std::string token, ReadFile(folder + "/token"));
  token.resize(std::min(token.size(), token.find_first_of("\r\n")));
  LOUPE_ASSIGN_OR_RETURN(const Certificate made, tls.authority()->IssueClient("admin", kLongestClientCertificate));
  return WritePrivateFile(path, ToText({.comment = "the administrator, for this machine",
                                        .address = fmt::format("localhost{}", address.substr(address.rfind(':'))),
                                        .token = token,
                                        .certificate = made.certificate,
                                        .key = made.key,
                                        .authority = tls.authority()->certificate()}));
}

}  // namespace

// Destroyed from the bottom up: first the server, last the lock.
struct Server::Parts {
  std::string folder;
  std::string address;
  std::unique_ptr<LockFile> lock;
  // Goes after the store, whose end makes the log part of the database.
  std::optional<RunningMark> running;
  std::unique_ptr<SqliteStore> store;
  std::unique_ptr<ArtifactFolder> artifacts;
  std::unique_ptr<AccessControl> access;
  std::unique_ptr<ServerTls> tls;
  std::unique_ptr<AuditLog> audit;
  RateLimiter limiter;
  SweepVersions versions;
  PlanCache plans;
  std::mutex health_mutex;
  grpc::HealthCheckServiceInterface* health = nullptr;
  std::atomic<bool> stopping{false};
  std::unique_ptr<Engine> engine;
  std::unique_ptr<OpenCalls> calls;
  std::unique_ptr<AccessWatch> access_watch;
  std::unique_ptr<AccessServiceImpl> identities;
  std::unique_ptr<SweepServiceImpl> sweeps;
  std::unique_ptr<TrialServiceImpl> trials;
  std::unique_ptr<WorkerServiceImpl> workers;
  std::unique_ptr<AnalysisServiceImpl> analysis;
  std::unique_ptr<EngineThread> thread;
  std::unique_ptr<WorkPool> pool;
  std::unique_ptr<AnalysisRunner> analyses;
  std::unique_ptr<grpc::Server> server;
  std::unique_ptr<Listener> listener;

  void SetServing(bool serving) {
    const std::lock_guard<std::mutex> lock_health(health_mutex);
    if (health != nullptr) health->SetServingStatus(serving && !stopping);
  }
};

Server::Server(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerOptions& options, const Clock& clock,
                                                      RandomSource& random) {
  // Debian builds abseil with its checks for debugging on: each lock that gRPC takes would be entered in a graph of all
  // locks.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  LOUPE_RETURN_IF_ERROR(MakeDataFolder(options.data_folder));
  auto parts = std::make_unique<Parts>();
  Parts& p = *parts;
  p.folder = options.data_folder;
  LOUPE_ASSIGN_OR_RETURN(p.lock, LockFile::Acquire(p.folder + kLockFile));
  LOUPE_RETURN_IF_ERROR(CheckDataFolder(p.folder));
  LOUPE_ASSIGN_OR_RETURN(p.store, SqliteStore::Open({.path = p.folder + kDatabaseFile, .on_checkpoint = [&p] {
                                                       if (p.running) p.running->Update();
                                                     }}));
  p.running.emplace(p.folder);
  LOUPE_ASSIGN_OR_RETURN(p.artifacts, ArtifactFolder::Open(p.folder + kArtifactsFolder));
  LOUPE_ASSIGN_OR_RETURN(p.access, AccessControl::Open(p.folder, clock));
  LOUPE_ASSIGN_OR_RETURN(p.tls, ServerTls::Open(options.tls, options.listen, p.folder));
  LOUPE_ASSIGN_OR_RETURN(p.audit, AuditLog::Open(p.folder + "/audit.log"));
  p.engine = std::make_unique<Engine>(
      options.scheduler, Engine::Deps{p.store.get(), &clock, &random,
                                      [&p](bool healthy) {
                                        if (healthy) spdlog::info("the store accepts commits again");
                                        p.SetServing(healthy);
                                      },
                                      [&p](const Effects& committed) { p.versions.Note(committed); },
                                      [&p](const SweepRecord& sweep) { return CellsForJob(p.plans, sweep); },
                                      [&p](const SweepRecord& sweep) { return NeedsOf(p.plans, sweep); }});
  LOUPE_RETURN_IF_ERROR(p.engine->Recover());
  p.thread = std::make_unique<EngineThread>(*p.engine, clock);
  p.calls = std::make_unique<OpenCalls>(options.limits.open, clock);
  p.access_watch = std::make_unique<AccessWatch>(*p.access, *p.calls, *p.tls);
  p.pool = std::make_unique<WorkPool>(kPoolThreads, kMostWaiting);
  p.analyses = std::make_unique<AnalysisRunner>(options.analysis, options.data_folder);
  const Backend backend{.engine = p.thread.get(),
                        .store = p.store.get(),
                        .artifacts = p.artifacts.get(),
                        .plans = &p.plans,
                        .clock = &clock,
                        .random = &random,
                        .access = p.access.get(),
                        .limiter = &p.limiter,
                        .calls = p.calls.get(),
                        .pool = p.pool.get(),
                        .limits = options.limits,
                        .audit = [audit = p.audit.get()](const std::string& line) { audit->Append(line); }};
  p.identities = std::make_unique<AccessServiceImpl>(backend, *p.tls);
  p.sweeps = std::make_unique<SweepServiceImpl>(backend);
  p.trials = std::make_unique<TrialServiceImpl>(backend);
  p.workers = std::make_unique<WorkerServiceImpl>(backend);
  p.analysis = std::make_unique<AnalysisServiceImpl>(backend, *p.analyses, p.versions);

  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  LOUPE_ASSIGN_OR_RETURN(p.listener, Listener::Open(options.listen));
  using ConnectionType = grpc::ServerBuilder::experimental_type::ExternalConnectionType;
  auto acceptor = builder.experimental().AddExternalConnectionAcceptor(ConnectionType::FROM_FD, p.tls->credentials());
  for (grpc::Service* service :
       {static_cast<grpc::Service*>(p.sweeps.get()), static_cast<grpc::Service*>(p.trials.get()),
        static_cast<grpc::Service*>(p.workers.get()), static_cast<grpc::Service*>(p.analysis.get()),
        static_cast<grpc::Service*>(p.identities.get())}) {
    builder.RegisterService(service);
  }
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreams);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kWindowBytes);
  grpc::ResourceQuota quota("coordinator");
  quota.SetMaxThreads(kMaxThreads);
  quota.Resize(kMemoryBytes);
  builder.SetResourceQuota(quota);
  // A connection costs a file descriptor: one that nobody uses is closed, and so is one whose other end has vanished.
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, kIdleMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  // A connection that never gets through TLS costs a descriptor too.
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeMs);
  // Fits clients/rpc/connection.cc, which pings every 20 s.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  p.server = builder.BuildAndStart();
  if (p.server == nullptr) return absl::InternalError("gRPC cannot start: its log says why (GRPC_VERBOSITY=INFO)");
  p.listener->Start(std::move(acceptor));
  {
    const std::lock_guard<std::mutex> lock_health(p.health_mutex);
    p.health = p.server->GetHealthCheckService();
  }
  p.SetServing(true);
  p.address = fmt::format("{}:{}", options.listen.substr(0, options.listen.rfind(':')), p.listener->port());
  LOUPE_RETURN_IF_ERROR(WriteLocalCredentials(p.folder, p.address, *p.tls));
  LOUPE_RETURN_IF_ERROR(WriteFileAtomically(p.folder + "/address", p.address + "\n"));
  return std::unique_ptr<Server>(new Server(std::move(parts)));
}

const std::string& Server::address() const { return parts_->address; }

void Server::Stop(absl::Duration grace) {
  if (parts_->stopping.exchange(true)) return;
  parts_->SetServing(false);
  parts_->listener->Stop();
  {
    const std::lock_guard<std::mutex> lock_health(parts_->health_mutex);
    parts_->health = nullptr;
  }
  // Held calls would last as long as the grace: they are answered now, and again if new ones come in between.
  parts_->thread->Post([](Engine& engine) { engine.CancelAll(); });
  parts_->analyses->Stop();
  parts_->server->Shutdown(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(grace));
  ::unlink((parts_->folder + "/address").c_str());
}

Server::~Server() {
  Stop(absl::Seconds(2));
  // Holds a handle of the server.
  parts_->listener.reset();
  // Every reply must have reached its call before the server goes away; what still waits in the pool asks the engine.
  parts_->analyses.reset();
  parts_->pool.reset();
  parts_->thread.reset();
  parts_->server.reset();
}

}  // namespace loupe::coordinator
