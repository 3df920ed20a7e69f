#include "coordinator/http/session.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/read.hpp>
#include <utility>

#include "common/guarded.h"
#include "coordinator/http/default_headers.h"
#include "fmt/format.h"

namespace loupe::coordinator::http {

namespace asio = boost::asio;
namespace beast = boost::beast;

namespace {

constexpr size_t kPieceBytes = 256 << 10;
constexpr size_t kMostHeaders = 100;
constexpr std::chrono::seconds kLookInterval{1};
// For the client to take a refusal before the connection is cut.
constexpr absl::Duration kGoodbyeTime = absl::Seconds(2);

std::chrono::milliseconds ToChrono(absl::Duration time) { return absl::ToChronoMilliseconds(time); }

template <typename Stream>
class SessionOn final : public Session {
 public:
  template <typename... Arguments>
  SessionOn(const Shared& shared, std::string machine, bool tls, std::function<void()> ended,
            std::shared_ptr<asio::ssl::context> context, Arguments&&... stream)
      : Session(shared, std::move(machine), tls, std::move(ended)),
        context_(std::move(context)),
        stream_(std::forward<Arguments>(stream)...) {}

 protected:
  static constexpr bool kTls = !std::is_same_v<Stream, Tcp::socket>;

  void Handshake(Done done) override {
    if constexpr (kTls) {
      stream_.async_handshake(asio::ssl::stream_base::server, std::move(done));
    } else {
      done({});
    }
  }
  void ReadHead(Done done) override {
    beast::http::async_read_header(stream_, buffer_, *parser_,
                                   [done = std::move(done)](Error error, size_t) { done(error); });
  }
  void ReadBody(Done done) override {
    beast::http::async_read(stream_, buffer_, *parser_, [done = std::move(done)](Error error, size_t) { done(error); });
  }
  void WriteBytes(const char* data, size_t bytes, Done done) override {
    asio::async_write(stream_, asio::buffer(data, bytes),
                      [done = std::move(done)](Error error, size_t) { done(error); });
  }
  void SayGoodbye(Done done) override {
    if constexpr (kTls) {
      stream_.async_shutdown(std::move(done));
    } else {
      Error ignored;
      stream_.shutdown(Tcp::socket::shutdown_send, ignored);
      done(ignored);
    }
  }
  Tcp::socket& socket() override {
    if constexpr (kTls) {
      return stream_.next_layer();
    } else {
      return stream_;
    }
  }

 private:
  // Outlives the stream.
  const std::shared_ptr<asio::ssl::context> context_;
  Stream stream_;
};

}  // namespace

// Passes everything on to the session's thread. `session_` is null, there, once the answer has left.
class SessionExchange final : public Exchange, public std::enable_shared_from_this<SessionExchange> {
 public:
  SessionExchange(Request request, std::shared_ptr<Session> session)
      : Exchange(std::move(request)), io_(session->shared_.io), session_(std::move(session)) {}

  void Respond(Response response, std::function<void()> sent) override {
    Post([self = shared_from_this(), response = std::move(response), sent = std::move(sent)]() mutable {
      if (self->session_ == nullptr) return sent ? sent() : void();
      const auto bytes = static_cast<int64_t>(response.body.size());
      self->session_->Respond(std::move(response), bytes, nullptr, std::move(sent));
    });
  }
  void RespondFrom(Response response, int64_t bytes, BodySource source, std::function<void()> sent) override {
    Post([self = shared_from_this(), response = std::move(response), bytes, source = std::move(source),
          sent = std::move(sent)]() mutable {
      if (self->session_ == nullptr) return sent ? sent() : void();
      self->session_->Respond(std::move(response), bytes, std::move(source), std::move(sent));
    });
  }
  void BeginStream(Response head, std::function<void(bool)> sent) override {
    Post([self = shared_from_this(), head = std::move(head), sent = std::move(sent)] {
      if (self->session_ == nullptr) return sent(false);
      self->session_->keep_alive_ = false;
      self->WriteNow(std::make_shared<const std::string>(self->session_->HeadOf(head, std::nullopt)), sent);
    });
  }
  void Write(std::shared_ptr<const std::string> piece, std::function<void(bool)> sent) override {
    Post([self = shared_from_this(), piece = std::move(piece), sent = std::move(sent)]() mutable {
      if (self->session_ == nullptr) return sent(false);
      self->WriteNow(std::move(piece), std::move(sent));
    });
  }
  void End() override {
    Post([self = shared_from_this()] {
      if (self->session_ != nullptr) self->session_->Finish(/*whole=*/true, nullptr);
    });
  }
  void OnGone(std::function<void()> gone) override {
    Post([self = shared_from_this(), gone = std::move(gone)]() mutable {
      if (self->session_ == nullptr) return gone();
      self->gone_ = std::move(gone);
    });
  }
  void Abort() override {
    Post([self = shared_from_this()] {
      if (self->session_ != nullptr) self->session_->NoteGone();
    });
  }
  void After(absl::Duration time, std::function<void()> late) override {
    Post([self = shared_from_this(), time, late = std::move(late)]() mutable {
      if (self->session_ == nullptr) return;
      if (!self->timer_) self->timer_.emplace(self->io_);
      self->timer_->expires_after(ToChrono(time));
      self->timer_->async_wait([self, late = std::move(late)](const Session::Error& error) {
        if (!error && self->session_ != nullptr) late();
      });
    });
  }
  void Post(std::function<void()> task) override { asio::post(io_, std::move(task)); }

  // Of the session, on its thread. Ends the exchange; tells who wants to know when the answer did not leave.
  void Detach(bool whole) {
    session_ = nullptr;
    if (timer_) timer_->cancel();
    if (auto gone = std::exchange(gone_, nullptr); gone && !whole) Guarded(gone).IgnoreError();
  }

 private:
  void WriteNow(std::shared_ptr<const std::string> piece, std::function<void(bool)> sent) {
    session_->WriteAll(std::move(piece), 0, [self = shared_from_this(), sent = std::move(sent)](Session::Error error) {
      if (error && self->session_ != nullptr) self->session_->NoteGone();
      sent(!error);
    });
  }

  asio::io_context& io_;
  std::shared_ptr<Session> session_;
  std::function<void()> gone_;
  std::optional<asio::steady_timer> timer_;
};

std::shared_ptr<Session> Session::Make(const Shared& shared, Tcp::socket socket,
                                       std::shared_ptr<asio::ssl::context> tls, std::string machine,
                                       std::function<void()> ended) {
  if (tls == nullptr) {
    return std::make_shared<SessionOn<Tcp::socket>>(shared, std::move(machine), false, std::move(ended), nullptr,
                                                    std::move(socket));
  }
  asio::ssl::context& context = *tls;
  return std::make_shared<SessionOn<asio::ssl::stream<Tcp::socket>>>(shared, std::move(machine), true, std::move(ended),
                                                                     std::move(tls), std::move(socket), context);
}

Session::Session(const Shared& shared, std::string machine, bool tls, std::function<void()> ended)
    : shared_(shared),
      machine_(std::move(machine)),
      tls_(tls),
      ended_(std::move(ended)),
      timer_(shared.io),
      look_timer_(shared.io) {}

Session::~Session() {
  if (ended_) ended_();
}

void Session::Start() {
  Allow(shared_.limits.head_time, [self = shared_from_this()] { self->Close(); });
  Handshake([self = shared_from_this()](Error error) { error ? self->Close() : self->NextRequest(); });
}

void Session::NextRequest() {
  if (closed_ || shared_.stopping) return Goodbye();
  parser_.emplace();
  parser_->header_limit(shared_.limits.header_bytes);
  parser_->body_limit(shared_.limits.body_bytes);
  Allow(shared_.limits.head_time, [self = shared_from_this()] {
    self->timed_out_ = true;
    Error ignored;
    self->socket().cancel(ignored);
  });
  ReadHead([self = shared_from_this()](Error error) { self->OnHead(error); });
}

void Session::RefuseError(Error error, bool in_head) {
  namespace http = beast::http;
  if (timed_out_) {
    // A connection that was only kept open is closed without a word.
    if (in_head && !parser_->got_some() && buffer_.size() == 0) return Goodbye();
    return Refuse(408, "the request did not arrive in time");
  }
  if (error == http::error::header_limit) return Refuse(431, "the head of the request is too large");
  if (error == http::error::body_limit) return Refuse(413, "the body of the request is too large");
  if (error == http::error::bad_version) return Refuse(505, "expected HTTP/1.1");
  if (error == http::error::end_of_stream || error == http::error::partial_message ||
      error.category() != http::make_error_code(http::error::bad_method).category()) {
    return Close();
  }
  Refuse(400, "this is no HTTP request");
}

void Session::OnHead(Error error) {
  if (error) return RefuseError(error, /*in_head=*/true);
  const auto& head = parser_->get();
  if (head.version() != 10 && head.version() != 11) return Refuse(505, "expected HTTP/1.1");
  if (static_cast<size_t>(std::distance(head.begin(), head.end())) > kMostHeaders)
    return Refuse(431, "the request has too many headers");
  if (head.version() == 11 && head.count(beast::http::field::host) != 1) return Refuse(400, "expected one Host header");
  // Two ways to say where the body ends are one too many: what follows could be taken for a request of its own.
  const bool has_encoding = head.count(beast::http::field::transfer_encoding) > 0;
  if (has_encoding && (!parser_->chunked() || head.count(beast::http::field::content_length) > 0))
    return Refuse(400, "expected Content-Length or Transfer-Encoding: chunked");
  Allow(shared_.limits.body_time, [self = shared_from_this()] {
    self->timed_out_ = true;
    Error ignored;
    self->socket().cancel(ignored);
  });
  const auto read = [self = shared_from_this()] {
    self->ReadBody([self](Error body_error) { self->OnBody(body_error); });
  };
  const auto expect = head[beast::http::field::expect];
  if (!expect.empty() && beast::iequals(expect, "100-continue") && !parser_->is_done()) {
    static const auto kContinue = std::make_shared<const std::string>("HTTP/1.1 100 Continue\r\n\r\n");
    return WriteBytes(kContinue->data(), kContinue->size(),
                      [self = shared_from_this(), read](Error failed) { failed ? self->Close() : read(); });
  }
  read();
}

void Session::OnBody(Error error) {
  if (error) return RefuseError(error, /*in_head=*/false);
  EndTimer();
  Serve();
}

void Session::Serve() {
  auto& message = parser_->get();
  Request request;
  request.method = std::string(message.method_string());
  std::string target(message.target());
  // What proxies send.
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (target.starts_with(scheme)) target.erase(0, std::min(target.size(), target.find('/', scheme.size())));
  }
  if (!target.starts_with('/')) return Refuse(400, "expected a path");
  const size_t question = target.find('?');
  request.path = target.substr(0, question);
  if (question != std::string::npos) request.query = target.substr(question + 1);
  for (const auto& field : message) {
    std::string name(field.name_string());
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c); });
    request.headers.emplace_back(std::move(name), std::string(field.value()));
  }
  request.body = std::move(message.body());
  request.machine = machine_;
  request.tls = tls_;
  keep_alive_ = parser_->keep_alive();
  head_only_ = request.method == "HEAD";
  parser_.reset();
  exchange_ = std::make_shared<SessionExchange>(std::move(request), shared_from_this());
  WatchForEnd();
  const std::shared_ptr<SessionExchange> exchange = exchange_;
  if (const absl::Status failed = Guarded([&] { shared_.handler(exchange); }); !failed.ok())
    exchange->Respond(Response{.status = 500, .headers = {}, .body = "the request could not be served\n"}, nullptr);
}

void Session::Refuse(int status, const std::string& why) {
  timed_out_ = false;
  keep_alive_ = false;
  head_only_ = false;
  Response response{.status = status, .headers = {{"Content-Type", "text/plain; charset=utf-8"}}, .body = why + "\n"};
  const std::string head = HeadOf(response, static_cast<int64_t>(response.body.size()));
  Allow(kGoodbyeTime, [self = shared_from_this()] { self->Close(); });
  const auto bytes = std::make_shared<const std::string>(head + response.body);
  WriteBytes(bytes->data(), bytes->size(), [self = shared_from_this(), bytes](Error) { self->Goodbye(); });
}

void Session::Allow(absl::Duration time, std::function<void()> late) {
  const uint64_t round = ++timer_round_;
  timed_out_ = false;
  timer_.expires_after(ToChrono(time));
  timer_.async_wait([self = shared_from_this(), round, late = std::move(late)](const Error& error) {
    if (!error && self->timer_round_ == round && !self->closed_) late();
  });
}

void Session::EndTimer() {
  ++timer_round_;
  timer_.cancel();
}

void Session::WatchForEnd() {
  if (closed_ || waiting_to_read_ || exchange_ == nullptr) return;
  waiting_to_read_ = true;
  socket().async_wait(Tcp::socket::wait_read, [self = shared_from_this()](const Error& error) {
    self->waiting_to_read_ = false;
    if (!error) self->LookForEnd();
  });
}

void Session::LookForEnd() {
  if (closed_ || exchange_ == nullptr) return;
  pollfd now{.fd = socket().native_handle(), .events = POLLRDHUP, .revents = 0};
  if (::poll(&now, 1, 0) > 0 && (now.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0) return NoteGone();
  // Its next request is here already: the socket will stay readable.
  look_timer_.expires_after(kLookInterval);
  look_timer_.async_wait([self = shared_from_this()](const Error& error) {
    if (!error) self->LookForEnd();
  });
}

void Session::NoteGone() {
  Finish(/*whole=*/false, nullptr);
  Close();
}

std::string Session::HeadOf(const Response& response, std::optional<int64_t> length) const {
  std::string head = fmt::format("HTTP/1.1 {} {}\r\n", response.status, ReasonPhrase(response.status));
  for (const auto& [name, value] : response.headers) head += fmt::format("{}: {}\r\n", name, value);
  AppendDefaultHeaders(response, head);
  if (length && response.status != 204 && response.status != 304)
    head += fmt::format("Content-Length: {}\r\n", *length);
  if (!keep_alive_ || shared_.stopping) head += "Connection: close\r\n";
  head += "\r\n";
  return head;
}

void Session::Respond(Response response, std::optional<int64_t> length, BodySource source, std::function<void()> sent) {
  if (shared_.stopping) keep_alive_ = false;
  std::string head = HeadOf(response, length);
  const bool bodiless = head_only_ || response.status == 204 || response.status == 304;
  if (!bodiless && source == nullptr) head += response.body;
  const int64_t left = bodiless || source == nullptr ? 0 : *length;
  WriteAll(std::make_shared<const std::string>(std::move(head)), 0,
           [self = shared_from_this(), left, source = std::move(source), sent = std::move(sent)](Error error) {
             if (error || left == 0) return self->Finish(!error, sent);
             self->SendPieces(left, source, sent);
           });
}

void Session::SendPieces(int64_t left, BodySource source, std::function<void()> sent) {
  source([self = shared_from_this(), left, source, sent](Piece piece) {
    asio::post(self->shared_.io, [self, left, source, sent, piece = std::move(piece)]() mutable {
      if (self->exchange_ == nullptr) return;
      const bool good = piece.ok() && !piece->empty() && static_cast<int64_t>(piece->size()) <= left;
      if (!good) return self->Finish(/*whole=*/false, sent);
      const auto bytes = std::make_shared<const std::string>(*std::move(piece));
      self->WriteAll(bytes, 0, [self, left, source, sent, bytes](Error error) {
        const int64_t rest = left - static_cast<int64_t>(bytes->size());
        if (error || rest == 0) return self->Finish(!error, sent);
        self->SendPieces(rest, source, sent);
      });
    });
  });
}

void Session::WriteAll(std::shared_ptr<const std::string> bytes, size_t from, Done done) {
  if (closed_) return done(asio::error::operation_aborted);
  if (from >= bytes->size()) {
    EndTimer();
    return done({});
  }
  Allow(shared_.limits.read_time, [self = shared_from_this()] { self->Close(); });
  const size_t count = std::min(kPieceBytes, bytes->size() - from);
  WriteBytes(bytes->data() + from, count, [self = shared_from_this(), bytes, from, count, done](Error error) {
    if (error) return done(error);
    self->WriteAll(bytes, from + count, done);
  });
}

void Session::Finish(bool whole, const std::function<void()>& sent) {
  const std::shared_ptr<SessionExchange> exchange = std::exchange(exchange_, nullptr);
  if (exchange != nullptr) exchange->Detach(whole);
  look_timer_.cancel();
  if (sent) Guarded(sent).IgnoreError();
  if (exchange == nullptr || closed_) return;
  whole&& keep_alive_ ? NextRequest() : whole ? Goodbye() : Close();
}

void Session::Goodbye() {
  if (closed_) return;
  Allow(kGoodbyeTime, [self = shared_from_this()] { self->Close(); });
  SayGoodbye([self = shared_from_this()](Error) {
    // What the client still sends is read and dropped for a moment: closing over it would take the answer back.
    const auto drop = std::make_shared<std::array<char, 4096>>();
    const auto again = std::make_shared<std::function<void(Error, size_t)>>();
    *again = [self, drop, weak = std::weak_ptr(again)](Error error, size_t) {
      const auto next = weak.lock();
      if (error || self->closed_ || next == nullptr) return self->Close();
      self->socket().async_read_some(asio::buffer(*drop), [next](Error e, size_t n) { (*next)(e, n); });
    };
    (*again)({}, 0);
  });
}

void Session::CloseIfIdle() {
  if (exchange_ == nullptr) Close();
}

void Session::Close() {
  if (std::exchange(closed_, true)) return;
  EndTimer();
  look_timer_.cancel();
  Error ignored;
  socket().close(ignored);
  if (exchange_ != nullptr) Finish(/*whole=*/false, nullptr);
  if (auto ended = std::exchange(ended_, nullptr)) ended();
}

}  // namespace loupe::coordinator::http
