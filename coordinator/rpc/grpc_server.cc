#include "coordinator/rpc/grpc_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <chrono>
#include <mutex>
#include <utility>

#include "absl/synchronization/mutex.h"
#include "common/status_macros.h"
#include "coordinator/rpc/call_spans.h"
#include "coordinator/rpc/listener.h"
#include "coordinator/rpc/server_credentials.h"
#include "coordinator/rpc/services.h"

namespace loupe::coordinator::rpc {
namespace {

constexpr int kMaxMessageBytes = 4 << 20;
// Threads of gRPC's own for reflection, the one service that holds a thread for each stream.
constexpr int kMaxThreads = 16;
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

}  // namespace

// Destroyed from the bottom up; the listener holds a handle of the server and goes first.
struct GrpcServer::Parts {
  explicit Parts(api::Handlers& handlers)
      : access(handlers.access),
        sweeps(handlers.backend, handlers.sweeps),
        trials(handlers.backend, handlers.trials),
        workers(handlers.backend, handlers.workers),
        analysis(handlers.backend, handlers.analysis),
        views(handlers.views) {}

  GrpcAccessService access;
  GrpcSweepService sweeps;
  GrpcTrialService trials;
  GrpcWorkerService workers;
  GrpcAnalysisService analysis;
  GrpcViewService views;
  std::unique_ptr<grpc::Server> server;
  std::unique_ptr<Listener> listener;
  std::mutex health_mutex;
  grpc::HealthCheckServiceInterface* health = nullptr;
};

GrpcServer::GrpcServer(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(access::ListenSockets sockets,
                                                              const access::ServerTls& tls, api::Handlers& handlers) {
  // Debian builds abseil with its checks for debugging on: each lock that gRPC takes would be entered in a graph of all
  // locks.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  auto parts = std::make_unique<Parts>(handlers);
  Parts& p = *parts;
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  LOUPE_ASSIGN_OR_RETURN(p.listener, Listener::Open(std::move(sockets)));
  LOUPE_ASSIGN_OR_RETURN(std::shared_ptr<grpc::ServerCredentials> credentials, ServerCredentialsFor(tls));
  using ConnectionType = grpc::ServerBuilder::experimental_type::ExternalConnectionType;
  auto acceptor = builder.experimental().AddExternalConnectionAcceptor(ConnectionType::FROM_FD, std::move(credentials));
  for (grpc::Service* service :
       std::initializer_list<grpc::Service*>{&p.sweeps, &p.trials, &p.workers, &p.analysis, &p.access, &p.views}) {
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
  if (loupe::trace::SpanExporter* spans = handlers.backend.spans; spans != nullptr)
    builder.experimental().SetInterceptorCreators(CallSpans(*spans));
  p.server = builder.BuildAndStart();
  if (p.server == nullptr) return absl::InternalError("gRPC cannot start: its log says why (GRPC_VERBOSITY=INFO)");
  p.listener->Start(std::move(acceptor));
  {
    const std::lock_guard<std::mutex> lock_health(p.health_mutex);
    p.health = p.server->GetHealthCheckService();
  }
  return std::unique_ptr<GrpcServer>(new GrpcServer(std::move(parts)));
}

int GrpcServer::port() const { return parts_->listener->port(); }

void GrpcServer::SetServing(bool serving) {
  const std::lock_guard<std::mutex> lock_health(parts_->health_mutex);
  if (parts_->health != nullptr) parts_->health->SetServingStatus(serving);
}

void GrpcServer::StopAccepting() {
  SetServing(false);
  parts_->listener->Stop();
  const std::lock_guard<std::mutex> lock_health(parts_->health_mutex);
  parts_->health = nullptr;
}

void GrpcServer::Shutdown(absl::Duration grace) {
  parts_->server->Shutdown(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(grace));
}

GrpcServer::~GrpcServer() {
  StopAccepting();
  Shutdown(absl::ZeroDuration());
}

}  // namespace loupe::coordinator::rpc
