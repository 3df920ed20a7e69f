// The coordinator's HTTP interface: which path is answered by whom (docs/http.md has the contract).
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/access/listen_sockets.h"
#include "coordinator/access/server_tls.h"
#include "coordinator/api/handlers.h"
#include "coordinator/http/event_feed.h"
#include "coordinator/http/http_server.h"
#include "coordinator/http/methods.h"
#include "coordinator/http/thumbnail.h"

namespace loupe::coordinator::http {

struct FrontDeps {
  api::Handlers& handlers;
  EventFeeds& feeds;
  const access::ServerTls& tls;
  // Prometheus' text; on the pool's threads.
  std::function<absl::StatusOr<std::string>()> metrics;
};

// Thread-safe after Start.
class Front {
 public:
  // Errors of HttpServer::Start. What is in `deps` outlives it.
  static absl::StatusOr<std::unique_ptr<Front>> Start(access::ListenSockets sockets, const HttpLimits& limits,
                                                      const FrontDeps& deps);

  int port() const { return server_->port(); }
  void SetReady(bool ready) { ready_ = ready; }
  void StopAccepting();
  // Every call must have its answer, or none to come, when this object goes.
  void Stop(absl::Duration grace) { server_->Stop(grace); }

 private:
  explicit Front(const FrontDeps& deps);
  void Serve(const std::shared_ptr<Exchange>& exchange);
  // /v1/…
  void ServeResource(const std::shared_ptr<Exchange>& exchange);
  void ServeMetrics(const std::shared_ptr<Exchange>& exchange);
  Response OpenApi(const Request& request) const;
  Response Page(const Request& request) const;

  const FrontDeps deps_;
  const Methods methods_;
  const std::string openapi_;
  // Compressed; nothing where that is not smaller.
  std::optional<std::string> openapi_gzip_;
  // By place in PageFiles.
  std::vector<std::optional<std::string>> page_gzip_;
  ThumbnailCache thumbnails_;
  std::atomic<bool> ready_{false};
  std::atomic<int> listening_port_{0};
  std::unique_ptr<HttpServer> server_;
};

}  // namespace loupe::coordinator::http
