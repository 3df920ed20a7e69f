// The coordinator's HTTP/1.1 front end: sockets, TLS, and bounds on what a client may send and how slowly.
//
// One i/o thread holds every connection, however many streams are open; a client that does not read or does not send
// costs a descriptor and some kilobytes, for a bounded time. Work runs elsewhere (the pool of api/).
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/access/listen_sockets.h"
#include "coordinator/access/server_tls.h"
#include "coordinator/http/exchange.h"

namespace loupe::coordinator::http {

struct HttpLimits {
  // 431 and 413 beyond. A message of gRPC is at most 4 MiB; as JSON it is larger.
  uint32_t header_bytes = 16 << 10;
  uint64_t body_bytes = 8 << 20;
  // From the connection's start, or the last answer, to a whole head; and from there to a whole body. 408 beyond.
  absl::Duration head_time = absl::Seconds(30);
  absl::Duration body_time = absl::Seconds(60);
  // For the client to read each piece of up to 256 KiB.
  absl::Duration read_time = absl::Seconds(60);
  // More connections are closed at once; of one machine other than this one.
  size_t connections = 8192;
  size_t connections_of_one_machine = 1024;
};

// Thread-safe after Start.
class HttpServer {
 public:
  // Gives every request on these sockets to `handler`, with TLS where `tls` is on.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(access::ListenSockets sockets, const access::ServerTls& tls,
                                                           const HttpLimits& limits, Handler handler);
  // Stop. No handler runs and no callback is called after it.
  ~HttpServer();

  int port() const;

  // No more connections from now on; those that wait for a request are closed.
  void StopAccepting();
  // Cuts what is still open, after `grace` at most, and ends the thread.
  void Stop(absl::Duration grace);

 private:
  struct Parts;
  explicit HttpServer(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace loupe::coordinator::http
