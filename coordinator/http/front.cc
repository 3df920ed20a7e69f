#include "coordinator/http/front.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "common/sha256.h"
#include "common/status_macros.h"
#include "coordinator/api/call.h"
#include "coordinator/http/compress.h"
#include "coordinator/http/connect_call.h"
#include "coordinator/http/default_headers.h"
#include "coordinator/http/errors.h"
#include "coordinator/http/event_stream.h"
#include "coordinator/http/openapi.h"
#include "coordinator/http/page_files.h"
#include "coordinator/http/range.h"
#include "coordinator/http/sign_in.h"
#include "coordinator/http/transfers.h"
#include "fmt/format.h"

namespace loupe::coordinator::http {
namespace {

Response Text(int status, std::string text) {
  return {.status = status, .headers = {{"Content-Type", "text/plain; charset=utf-8"}}, .body = std::move(text)};
}

Response NotFound(const Request& request) {
  return ErrorResponse(absl::NotFoundError(fmt::format("there is nothing at {:.200}", request.path)));
}

Response OnlyBy(const char* methods) {
  Response response = ErrorResponse(absl::UnimplementedError(fmt::format("expected {}", methods)), 405);
  response.headers.emplace_back("Allow", methods);
  return response;
}

bool Reads(const Request& request) { return request.method == "GET" || request.method == "HEAD"; }

// The decoded parts of "/v1/a/b"; none where one is badly encoded or empty.
std::vector<std::string> PartsOf(std::string_view path) {
  std::vector<std::string> parts;
  while (!path.empty()) {
    path.remove_prefix(1);
    const std::string_view part = path.substr(0, path.find('/'));
    path.remove_prefix(part.size());
    const std::optional<std::string> decoded = PercentDecoded(part);
    if (!decoded || decoded->empty() || decoded->find('/') != std::string::npos || parts.size() > 8) return {};
    parts.push_back(*decoded);
  }
  return parts;
}

// Once, for what never changes.
std::optional<std::string> SmallerGzip(std::string_view bytes) {
  std::optional<std::string> made = Gzip(bytes, /*well=*/true);
  return made && made->size() < bytes.size() ? std::move(made) : std::nullopt;
}

}  // namespace

Front::Front(const FrontDeps& deps) : deps_(deps), methods_(deps.handlers), openapi_(OpenApiDocument(methods_)) {
  openapi_gzip_ = SmallerGzip(openapi_);
  for (const PageFile& file : PageFiles()) page_gzip_.push_back(SmallerGzip(file.content));
}

absl::StatusOr<std::unique_ptr<Front>> Front::Start(access::ListenSockets sockets, const HttpLimits& limits,
                                                    const FrontDeps& deps) {
  std::unique_ptr<Front> front(new Front(deps));
  LOUPE_ASSIGN_OR_RETURN(front->server_, HttpServer::Start(std::move(sockets), deps.tls, limits,
                                                           [front = front.get()](std::shared_ptr<Exchange> exchange) {
                                                             front->Serve(exchange);
                                                           }));
  front->listening_port_ = front->server_->port();
  return front;
}

void Front::StopAccepting() {
  ready_ = false;
  server_->StopAccepting();
}

void Front::Serve(const std::shared_ptr<Exchange>& exchange) {
  const Request& request = exchange->request();
  const std::string& path = request.path;
  if (path.starts_with("/loupe.v1.")) {
    return ServeConnect(deps_.handlers.backend, methods_, listening_port_, exchange);
  }
  if (path.starts_with("/v1/")) return ServeResource(exchange);
  if (!Reads(request)) return exchange->Respond(OnlyBy("GET, HEAD"));
  if (path == "/healthz") return exchange->Respond(Text(200, "ok\n"));
  if (path == "/readyz") {
    return exchange->Respond(ready_ ? Text(200, "ready\n") : Text(503, "the store does not accept commits\n"));
  }
  if (path == "/metrics") return ServeMetrics(exchange);
  if (path == "/openapi.json") {
    return exchange->Respond(OpenApi(request));
  }
  exchange->Respond(Page(request));
}

void Front::ServeResource(const std::shared_ptr<Exchange>& exchange) {
  const Request& request = exchange->request();
  const std::vector<std::string> parts = PartsOf(request.path);
  const auto is = [&](size_t at, const char* name) { return parts.size() > at && parts[at] == name; };
  if (parts.size() == 2 && is(1, "session")) {
    const bool known = request.method == "POST" || request.method == "GET" || request.method == "DELETE";
    if (!known) return exchange->Respond(OnlyBy("GET, POST, DELETE"));
    // A digest, and perhaps a file that is read again: nothing for a thread of its own.
    return exchange->Respond(AnswerSession(deps_.handlers.backend, request, listening_port_));
  }
  if (parts.size() == 2 && is(1, "report")) {
    if (request.method != "POST") return exchange->Respond(OnlyBy("POST"));
    return ServeReport(deps_.handlers, listening_port_, exchange);
  }
  if (parts.size() == 4 && is(1, "sweeps") && is(3, "events")) {
    if (request.method != "GET") return exchange->Respond(OnlyBy("GET"));
    return ServeEvents(deps_.handlers, deps_.feeds, listening_port_, "sweeps/" + parts[2], exchange);
  }
  if (parts.size() == 7 && is(1, "sweeps") && is(3, "trials") && is(5, "artifacts")) {
    if (!Reads(request)) return exchange->Respond(OnlyBy("GET, HEAD"));
    return ServeArtifact(deps_.handlers, thumbnails_, listening_port_,
                         fmt::format("sweeps/{}/trials/{}", parts[2], parts[4]), parts[6], exchange);
  }
  exchange->Respond(NotFound(request));
}

void Front::ServeMetrics(const std::shared_ptr<Exchange>& exchange) {
  const api::Backend& backend = deps_.handlers.backend;
  const absl::StatusOr<access::Caller> caller =
      api::Admit(backend, OriginOf(exchange->request(), listening_port_), access::Role::kViewer);
  if (!caller.ok()) return exchange->Respond(ErrorResponse(caller.status()));
  api::RunOnPool(
      backend, api::ClientName(*caller, exchange->request().machine),
      [this, exchange] {
        absl::StatusOr<std::string> text = deps_.metrics();
        if (!text.ok()) return exchange->Respond(ErrorResponse(text.status()));
        Response response{.status = 200,
                          .headers = {{"Content-Type", "text/plain; version=0.0.4; charset=utf-8"}},
                          .body = *std::move(text)};
        Compress(exchange->request(), response);
        exchange->Respond(std::move(response));
      },
      [exchange](const absl::Status& failed) { exchange->Respond(ErrorResponse(failed)); });
}

Response Front::OpenApi(const Request& request) const {
  Response response{
      .status = 200, .headers = {{"Content-Type", "application/json"}, {"Vary", "Accept-Encoding"}}, .body = ""};
  const bool smaller = openapi_gzip_ && TakesGzip(request);
  response.body = smaller ? *openapi_gzip_ : openapi_;
  if (smaller) response.headers.emplace_back("Content-Encoding", "gzip");
  return response;
}

Response Front::Page(const Request& request) const {
  const std::span<const PageFile> files = PageFiles();
  const auto find = [&](std::string_view path) {
    return std::find_if(files.begin(), files.end(), [&](const PageFile& file) { return file.path == path; });
  };
  auto file = find(request.path);
  // What the page shows by itself, "/sweeps/a": a name without a dot.
  if (file == files.end() && request.path.find('.') == std::string::npos) file = find("/index.html");
  if (file == files.end()) return NotFound(request);
  const std::optional<std::string>& smaller = page_gzip_[static_cast<size_t>(file - files.begin())];
  const bool compressed = smaller && TakesGzip(request);
  // Other bytes, another tag.
  const std::string etag =
      fmt::format("\"{}{}\"", Sha256Hex(std::string_view(file->content.data(), file->content.size())).substr(0, 32),
                  compressed ? "-gzip" : "");
  Response response{.status = 200,
                    .headers = {{"Content-Type", std::string(file->media_type)},
                                {"Content-Security-Policy", std::string(kPagePolicy)},
                                {"Cache-Control", "no-cache"},
                                {"ETag", etag},
                                {"Vary", "Accept-Encoding"}},
                    .body = ""};
  if (PartOf(request, 0, etag).status == 304) {
    response.status = 304;
  } else {
    response.body = compressed ? *smaller : std::string(file->content);
    if (compressed) response.headers.emplace_back("Content-Encoding", "gzip");
  }
  return response;
}

}  // namespace loupe::coordinator::http
