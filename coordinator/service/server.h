// The coordinator as one object: data folder, engine, services, gRPC server.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/random_source.h"
#include "coordinator/scheduler/scheduler.h"
#include "coordinator/service/client_limits.h"

namespace loupe::coordinator {

struct ServerOptions {
  // Holds coordinator.db, artifacts/, token, tokens, address, audit.log and lock. Made (0700) where it is missing.
  std::string data_folder;
  // "host:port"; port 0 takes a free one. Other than loopback is refused without TLS: tokens would travel in the clear.
  std::string listen = "127.0.0.1:7117";
  // PEM files. Certificate and key turn TLS on; a CA file also demands a client's certificate that it has signed.
  std::string certificate_file;
  std::string key_file;
  std::string client_ca_file;
  ClientLimits limits;
  SchedulerOptions scheduler;
};

// Start … Stop once. Thread-safe after Start.
class Server {
 public:
  // Everything up and listening. FAILED_PRECONDITION: another coordinator holds the folder, a newer schema, an address that
  // needs TLS; ALREADY_EXISTS: the port is in use; errors of Listener::Open; errors of the store name the file.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const ServerOptions& options, const Clock& clock = SystemClock(),
                                                       RandomSource& random = SystemRandom());
  // Stops in order: health says NOT_SERVING, held calls are answered, calls under way get `grace`, the store is closed.
  ~Server();
  void Stop(absl::Duration grace);

  // "127.0.0.1:41234": what clients connect to; also in DATA/address while it runs.
  const std::string& address() const;

 private:
  struct Parts;
  explicit Server(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace loupe::coordinator
