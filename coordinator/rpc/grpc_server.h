// The coordinator's gRPC front end: connections, TLS, health, and the services.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/access/listen_sockets.h"
#include "coordinator/access/server_tls.h"
#include "coordinator/api/handlers.h"

namespace loupe::coordinator::rpc {

// Thread-safe after Start.
class GrpcServer {
 public:
  // Answering on these sockets.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(access::ListenSockets sockets, const access::ServerTls& tls,
                                                           api::Handlers& handlers);
  // StopAccepting, then Shutdown at once, unless that was done. Every call must have its answer by now.
  ~GrpcServer();

  int port() const;
  void SetServing(bool serving);

  // Stops in this order, once: no more connections, health NOT_SERVING for good …
  void StopAccepting();
  // … and the end of the calls that are open, after `grace` in any case.
  void Shutdown(absl::Duration grace);

 private:
  struct Parts;
  explicit GrpcServer(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace loupe::coordinator::rpc
