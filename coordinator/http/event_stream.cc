#include "coordinator/http/event_stream.h"

#include <utility>

#include "coordinator/api/call.h"
#include "coordinator/http/errors.h"
#include "coordinator/http/sign_in.h"
#include "loupe/v1/sweep.pb.h"

namespace loupe::coordinator::http {
namespace {

// Proxies and browsers give up what is silent for long.
constexpr absl::Duration kHeartbeat = absl::Seconds(15);
// How long a browser waits before it asks again.
constexpr char kPrelude[] = "retry: 2000\n\n";

// Runs on the i/o thread, but for its beginning. Kept by the feed's list of subscribers, or by an operation under way.
class EventStream : public api::CallState, public std::enable_shared_from_this<EventStream> {
 public:
  EventStream(api::Handlers& handlers, std::shared_ptr<Exchange> exchange)
      : handlers_(handlers), exchange_(std::move(exchange)) {}
  ~EventStream() {
    if (feed_ != nullptr) feed_->Unsubscribe(subscriber_);
  }

  bool Admit(int port, const v1::WatchSweepRequest& request) {
    absl::StatusOr<std::unique_ptr<access::OpenCall>> opened = api::OpenFor(
        handlers_.backend, [this, port] { return OriginOf(exchange_->request(), port); },
        [exchange = std::weak_ptr<Exchange>(exchange_)] {
          if (const auto held = exchange.lock()) held->Abort();
        },
        access::Role::kViewer, access::CallKind::kHeld, &request);
    if (!opened.ok()) {
      exchange_->Respond(ErrorResponse(opened.status()));
      return false;
    }
    SetOpen(*std::move(opened));
    return true;
  }

  // On the pool's threads.
  void Begin(EventFeeds& feeds, const std::string& sweep_name) {
    const std::string_view last = exchange_->request().Header("last-event-id");
    absl::StatusOr<std::shared_ptr<EventFeed>> feed = feeds.Open(sweep_name, last);
    if (!feed.ok()) return exchange_->Respond(ErrorResponse(feed.status()));
    // It was told the end, and nothing has begun since.
    if (last.ends_with(".end")) {
      const auto sweep = handlers_.backend.store->GetSweep((*feed)->sweep().id);
      if (!sweep.ok() || scheduler::IsTerminal(sweep->shown_state())) return exchange_->Respond({.status = 204});
    }
    feed_ = *std::move(feed);
    EventFeed::Start start = feed_->StartAfter(last);
    position_ = start.position;
    // Alive until the client or the feed ends: its exchange holds it.
    exchange_->OnGone([self = shared_from_this()] { self->over_ = true; });
    subscriber_ = feed_->Subscribe([weak = weak_from_this(), exchange = std::weak_ptr<Exchange>(exchange_)] {
      const auto held = exchange.lock();
      if (held == nullptr) return;
      held->Post([weak] {
        if (const auto stream = weak.lock()) stream->Pump();
      });
    });
    Response head{.status = 200, .headers = {{"Content-Type", "text/event-stream"}}, .body = ""};
    // Of nginx: pass on what comes when it comes.
    head.headers.emplace_back("X-Accel-Buffering", "no");
    exchange_->BeginStream(std::move(head), [self = shared_from_this(), prelude = kPrelude + start.prelude](bool sent) {
      if (sent) self->Send(std::make_shared<const std::string>(prelude));
    });
  }

 private:
  void Pump() {
    if (sending_ || over_) return;
    EventFeed::Next next = feed_->After(position_);
    if (next.text != nullptr) {
      position_ = next.position;
      return Send(std::move(next.text));
    }
    if (next.ended) {
      over_ = true;
      return exchange_->End();
    }
    exchange_->After(kHeartbeat, [weak = weak_from_this()] {
      static const auto kComment = std::make_shared<const std::string>(":\n\n");
      if (const auto stream = weak.lock(); stream != nullptr && !stream->sending_ && !stream->over_)
        stream->Send(kComment);
    });
  }

  void Send(std::shared_ptr<const std::string> text) {
    sending_ = true;
    HandOver();
    exchange_->Write(std::move(text), [self = shared_from_this()](bool sent) {
      self->TakeBack();
      self->sending_ = false;
      self->over_ = self->over_ || !sent;
      self->Pump();
    });
  }

  api::Handlers& handlers_;
  const std::shared_ptr<Exchange> exchange_;
  std::shared_ptr<EventFeed> feed_;
  uint64_t subscriber_ = 0;
  uint64_t position_ = 0;
  // Until the head has left.
  bool sending_ = true;
  bool over_ = false;
};

}  // namespace

void ServeEvents(api::Handlers& handlers, EventFeeds& feeds, int port, const std::string& sweep_name,
                 std::shared_ptr<Exchange> exchange) {
  v1::WatchSweepRequest request;
  request.set_name(sweep_name);
  const auto stream = std::make_shared<EventStream>(handlers, exchange);
  if (!stream->Admit(port, request)) return;
  api::RunOnPool(
      handlers.backend, stream->open()->client(), [stream, &feeds, sweep_name] { stream->Begin(feeds, sweep_name); },
      [exchange](const absl::Status& failed) { exchange->Respond(ErrorResponse(failed)); });
}

}  // namespace loupe::coordinator::http
