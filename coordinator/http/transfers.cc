#include "coordinator/http/transfers.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "common/status_macros.h"
#include "coordinator/http/compress.h"
#include "coordinator/http/default_headers.h"
#include "coordinator/http/errors.h"
#include "coordinator/http/range.h"
#include "coordinator/http/sign_in.h"
#include "fmt/format.h"

namespace loupe::coordinator::http {
namespace {

// Small, for each transfer that is open has one in memory.
constexpr int64_t kTransferPieceBytes = 256 << 10;

// A transfer on its way; kept by whatever it waits for. `CallState` is what a stream of gRPC keeps, too.
class Transfer : public api::CallState, public std::enable_shared_from_this<Transfer> {
 public:
  Transfer(api::Handlers& handlers, std::shared_ptr<Exchange> exchange)
      : handlers_(handlers), exchange_(std::move(exchange)) {}

  // False when the exchange has its answer already.
  bool Admit(int port, const google::protobuf::Message& request) {
    absl::StatusOr<std::unique_ptr<access::OpenCall>> opened = api::OpenFor(
        handlers_.backend, [this, port] { return OriginOf(exchange_->request(), port); },
        [exchange = std::weak_ptr<Exchange>(exchange_)] {
          if (const auto held = exchange.lock()) held->Abort();
        },
        access::Role::kViewer, access::CallKind::kStream, &request);
    if (!opened.ok()) {
      exchange_->Respond(ErrorResponse(opened.status()));
      return false;
    }
    SetOpen(*std::move(opened));
    return true;
  }

  void WatchForEnd() {
    exchange_->OnGone([weak = weak_from_this()] {
      if (const auto transfer = weak.lock()) transfer->NoteCancelled();
    });
  }

  api::Handlers& handlers() { return handlers_; }
  Exchange& exchange() { return *exchange_; }
  void AwaitClient() { HandOver(); }
  void ClientMoved() { TakeBack(); }

  std::optional<api::ArtifactSource> source;
  int64_t at = 0;
  int64_t left = 0;

 private:
  api::Handlers& handlers_;
  const std::shared_ptr<Exchange> exchange_;
};

// Pictures and plain text are shown; anything else is saved, so that no file of a worker's runs as a page of ours.
bool IsShown(const std::string& media_type) {
  static constexpr std::string_view kShown[] = {"image/png", "image/jpeg", "image/webp",
                                                "image/gif", "text/plain", "application/json"};
  return std::find(std::begin(kShown), std::end(kShown), media_type) != std::end(kShown);
}

bool IsHeaderText(const std::string& text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

void SendArtifact(const std::shared_ptr<Transfer>& transfer) {
  const scheduler::ArtifactRecord& record = transfer->source->record();
  const std::string etag = fmt::format("\"{}\"", record.sha256);
  const Part part = PartOf(transfer->exchange().request(), record.size_bytes, etag);
  Response response{.status = part.status, .headers = {}, .body = ""};
  // Its content never changes; that this client may still see it is asked each time.
  response.headers = {{"ETag", etag}, {"Cache-Control", "private, no-cache"}, {"Accept-Ranges", "bytes"}};
  if (part.status == 416) response.headers.emplace_back("Content-Range", fmt::format("bytes */{}", record.size_bytes));
  if (part.status == 206) {
    response.headers.emplace_back(
        "Content-Range", fmt::format("bytes {}-{}/{}", part.first, part.first + part.bytes - 1, record.size_bytes));
  }
  if (part.status == 200 || part.status == 206) {
    const bool shown = IsShown(record.media_type);
    response.headers.emplace_back("Content-Type",
                                  IsHeaderText(record.media_type) ? record.media_type : "application/octet-stream");
    response.headers.emplace_back("Content-Disposition",
                                  fmt::format("{}; filename=\"{}\"", shown ? "inline" : "attachment", record.name));
  }
  transfer->at = part.first;
  transfer->left = part.bytes;
  const auto read = [transfer](const std::function<void(Piece)>& deliver) {
    transfer->ClientMoved();
    api::RunOnPool(
        transfer->handlers().backend, transfer->open()->client(),
        [transfer, deliver] {
          std::string piece;
          const auto most = static_cast<size_t>(std::min(kTransferPieceBytes, transfer->left));
          const absl::Status status = transfer->source->Read(transfer->at, most, piece);
          transfer->at += static_cast<int64_t>(piece.size());
          transfer->left -= static_cast<int64_t>(piece.size());
          transfer->AwaitClient();
          deliver(status.ok() ? Piece(std::move(piece)) : Piece(status));
        },
        [deliver](const absl::Status& failed) { deliver(failed); });
  };
  transfer->AwaitClient();
  transfer->exchange().RespondFrom(std::move(response), part.bytes, read, [transfer] {});
}

// The whole file of a picture that thumbnails are made of.
absl::StatusOr<std::string> ReadPicture(const api::ArtifactSource& source) {
  const scheduler::ArtifactRecord& record = source.record();
  if (record.size_bytes > kMostThumbnailFile) {
    return absl::FailedPreconditionError(fmt::format("'{}' has {} bytes, and thumbnails are made of at most {}",
                                                     record.name, record.size_bytes, kMostThumbnailFile));
  }
  std::string bytes;
  LOUPE_RETURN_IF_ERROR(source.Read(0, static_cast<size_t>(record.size_bytes), bytes));
  if (static_cast<int64_t>(bytes.size()) == record.size_bytes) return bytes;
  return absl::DataLossError(fmt::format("the file of '{}' is shorter than it was", record.name));
}

void SendThumbnail(const std::shared_ptr<Transfer>& transfer, ThumbnailCache& cache, int width) {
  const scheduler::ArtifactRecord& record = transfer->source->record();
  const std::string etag = fmt::format("\"{}-{}\"", record.sha256, width);
  Response response{.status = 200, .headers = {{"ETag", etag}, {"Cache-Control", "private, no-cache"}}, .body = ""};
  if (PartOf(transfer->exchange().request(), 0, etag).status == 304) {
    response.status = 304;
    return transfer->exchange().Respond(std::move(response));
  }
  std::shared_ptr<const std::string> made = cache.Find(record.sha256, width);
  if (made == nullptr) {
    // Not before the lock: what waits for it holds no picture.
    const auto read = [&] { return ReadPicture(*transfer->source); };
    absl::StatusOr<std::shared_ptr<const std::string>> thumbnail = cache.Make(record.sha256, width, read);
    if (!thumbnail.ok()) return transfer->exchange().Respond(ErrorResponse(thumbnail.status()));
    made = *std::move(thumbnail);
  }
  response.headers.emplace_back("Content-Type", "image/png");
  response.body = *made;
  transfer->exchange().Respond(std::move(response), [transfer] {});
}

// On a thread of the pool: a report may be large.
void SendCompressed(const std::shared_ptr<Transfer>& transfer, Response response,
                    const api::AnalysisApi::Answer& answer) {
  api::RunOnPool(
      transfer->handlers().backend, transfer->open()->client(),
      [transfer, response = std::move(response), answer]() mutable {
        response.body = answer->payload;
        Compress(transfer->exchange().request(), response);
        transfer->AwaitClient();
        transfer->exchange().Respond(std::move(response), [transfer] {});
      },
      [transfer](const absl::Status& failed) { transfer->exchange().Respond(ErrorResponse(failed)); });
}

}  // namespace

void ServeArtifact(api::Handlers& handlers, ThumbnailCache& thumbnails, int port, const std::string& trial,
                   const std::string& artifact, const std::shared_ptr<Exchange>& exchange) {
  std::optional<int> width;
  if (const std::optional<std::string> text = exchange->request().QueryValue("width")) {
    const absl::StatusOr<int> wanted = ThumbnailWidth(*text);
    // Who asks is looked at first, as for everything.
    const absl::Status known = api::Identify(handlers.backend, OriginOf(exchange->request(), port)).status();
    if (!known.ok() || !wanted.ok()) return exchange->Respond(ErrorResponse(known.ok() ? wanted.status() : known));
    width = *wanted;
  }
  v1::DownloadArtifactRequest request;
  request.set_trial(trial);
  request.set_artifact_name(artifact);
  const auto transfer = std::make_shared<Transfer>(handlers, exchange);
  if (!transfer->Admit(port, request)) return;
  transfer->WatchForEnd();
  api::RunOnPool(
      handlers.backend, transfer->open()->client(),
      [transfer, request, width, &thumbnails] {
        absl::StatusOr<api::ArtifactSource> source = api::ArtifactSource::Open(transfer->handlers().backend, request);
        if (!source.ok()) return transfer->exchange().Respond(ErrorResponse(source.status()));
        transfer->source.emplace(*std::move(source));
        width ? SendThumbnail(transfer, thumbnails, *width) : SendArtifact(transfer);
      },
      [exchange](const absl::Status& failed) { exchange->Respond(ErrorResponse(failed)); });
}

void ServeReport(api::Handlers& handlers, int port, const std::shared_ptr<Exchange>& exchange) {
  v1::RenderReportRequest request;
  const auto parsed = google::protobuf::util::JsonStringToMessage(exchange->request().body, &request);
  if (!parsed.ok()) {
    const absl::Status known = api::Identify(handlers.backend, OriginOf(exchange->request(), port)).status();
    return exchange->Respond(ErrorResponse(
        known.ok() ? absl::InvalidArgumentError(fmt::format("the body is no loupe.v1.RenderReportRequest in JSON: {}",
                                                            parsed.message().ToString()))
                   : known));
  }
  const auto transfer = std::make_shared<Transfer>(handlers, exchange);
  if (!transfer->Admit(port, request)) return;
  const std::shared_ptr<api::AnalysisCancellation> cancellation = handlers.analysis.NewCancellation();
  transfer->SetOnCancel([cancellation] { cancellation->Cancel(); });
  const auto send = [transfer, format = request.format()](const api::AnalysisApi::Answer& answer) {
    absl::Status status = answer->status;
    if (status.ok()) status = transfer->open()->Reserve(static_cast<int64_t>(answer->payload.size()));
    if (!status.ok()) return transfer->exchange().Respond(ErrorResponse(status));
    const char* type = format == v1::RenderReportRequest::HTML   ? "text/html; charset=utf-8"
                       : format == v1::RenderReportRequest::JSON ? "application/json"
                       : format == v1::RenderReportRequest::CSV  ? "text/csv; charset=utf-8"
                                                                 : "text/plain; charset=utf-8";
    Response response{.status = 200, .headers = {{"Content-Type", type}}, .body = ""};
    // An HTML report carries its styles and pictures in itself; nothing in it runs.
    if (format == v1::RenderReportRequest::HTML) {
      response.headers.emplace_back("Content-Security-Policy",
                                    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; "
                                    "frame-ancestors 'self'");
    }
    if (IsToCompress(transfer->exchange().request(), answer->payload.size()))
      return SendCompressed(transfer, std::move(response), answer);
    response.headers.emplace_back("Vary", "Accept-Encoding");
    const auto size = static_cast<int64_t>(answer->payload.size());
    const auto read = [answer, at = std::make_shared<size_t>(0)](const std::function<void(Piece)>& deliver) {
      std::string piece = answer->payload.substr(*at, static_cast<size_t>(kTransferPieceBytes));
      *at += piece.size();
      deliver(std::move(piece));
    };
    transfer->AwaitClient();
    transfer->exchange().RespondFrom(std::move(response), size, read, [transfer] {});
  };
  api::RunOnPool(
      handlers.backend, transfer->open()->client(),
      [transfer, request, cancellation, send] {
        transfer->handlers().analysis.RenderReport(transfer->open()->client(), request, *cancellation, send);
      },
      [exchange](const absl::Status& failed) { exchange->Respond(ErrorResponse(failed)); });
  transfer->WatchForEnd();
}

}  // namespace loupe::coordinator::http
