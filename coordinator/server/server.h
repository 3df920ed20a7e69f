// The coordinator as one object: data folder, engine, handlers, front ends.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/random_source.h"
#include "common/trace/span_exporter.h"
#include "coordinator/access/client_limits.h"
#include "coordinator/access/listen_sockets.h"
#include "coordinator/access/server_tls.h"
#include "coordinator/api/analysis_runner.h"
#include "coordinator/scheduler/scheduler.h"

namespace loupe::coordinator::server {

struct ServerOptions {
  // Holds coordinator.db, artifacts/, token, tokens, tls/, address, http_address, credentials, audit.log and lock. Made
  // (0700) where it is missing.
  std::string data_folder;
  // "host:port"; port 0 takes a free one. Other than loopback means mutual TLS (server_tls.h).
  std::string listen = "127.0.0.1:7117";
  // The HTTP interface's "host:port". Empty: on loopback, at the port after gRPC's, or, where that is 0 or taken, a
  // free one. "off": none. Other than loopback means TLS as for gRPC.
  std::string http_listen;
  access::TlsOptions tls;
  access::ClientLimits limits;
  // How analyses run; the program is the coordinator's own unless another is named.
  api::AnalysisOptions analysis = {.program = {"/proc/self/exe", "analyse"}};
  scheduler::SchedulerOptions scheduler;
  // NotifierOptions::command.
  std::string notify_command;
  // Where spans are sent; null: nowhere. Outlives the server.
  loupe::trace::SpanExporter* spans = nullptr;
};

// Start … Stop once. Thread-safe after Start.
class Server {
 public:
  // Everything up and listening: on the sockets that were handed over, and on the options' addresses where none were.
  // FAILED_PRECONDITION: another coordinator holds the folder, a newer schema; ALREADY_EXISTS: the port is in use;
  // errors of ListenSockets::Open; errors of the store name the file.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const ServerOptions& options, const Clock& clock = SystemClock(),
                                                       RandomSource& random = SystemRandom(),
                                                       access::HandedSockets handed = {});
  // Stops in order: health says NOT_SERVING, held calls are answered, calls under way get `grace`, the store is closed.
  ~Server();
  void Stop(absl::Duration grace);

  // "127.0.0.1:41234": what clients connect to; also in DATA/address while it runs.
  const std::string& address() const;
  // "http://127.0.0.1:41235": what browsers open; also in DATA/http_address. Empty where there is none.
  const std::string& http_address() const;

 private:
  struct Parts;
  explicit Server(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace loupe::coordinator::server
