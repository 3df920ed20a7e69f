// One connection of a client: request after request, each read whole within its bounds, handed on and answered.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "coordinator/http/exchange.h"
#include "coordinator/http/http_server.h"

namespace loupe::coordinator::http {

class SessionExchange;

// Of one i/o thread, on which all of it runs. Keeps itself alive while an operation is under way.
class Session : public std::enable_shared_from_this<Session> {
 public:
  using Error = boost::system::error_code;
  using Tcp = boost::asio::ip::tcp;
  using Done = std::function<void(Error)>;

  struct Shared {
    boost::asio::io_context& io;
    const HttpLimits& limits;
    const Handler& handler;
    // No further request is read.
    const bool& stopping;
  };

  // With TLS where `tls` is given. `ended` is called once, when the connection is closed.
  static std::shared_ptr<Session> Make(const Shared& shared, Tcp::socket socket,
                                       std::shared_ptr<boost::asio::ssl::context> tls, std::string machine,
                                       std::function<void()> ended);
  virtual ~Session();

  void Start();
  // Closes the connection unless a request is being served.
  void CloseIfIdle();
  void Close();

 protected:
  Session(const Shared& shared, std::string machine, bool tls, std::function<void()> ended);

  virtual void Handshake(Done done) = 0;
  virtual void ReadHead(Done done) = 0;
  virtual void ReadBody(Done done) = 0;
  virtual void WriteBytes(const char* data, size_t bytes, Done done) = 0;
  // Says goodbye where the protocol has a word for it, then calls `done`.
  virtual void SayGoodbye(Done done) = 0;
  virtual Tcp::socket& socket() = 0;

  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;
  boost::beast::flat_buffer buffer_;
  std::optional<Parser> parser_;

 private:
  friend class SessionExchange;

  void NextRequest();
  void OnHead(Error error);
  void OnBody(Error error);
  void Serve();
  // An answer to what is no request, after which nothing can be read: the connection is closed.
  void Refuse(int status, const std::string& why);
  void RefuseError(Error error, bool in_head);

  // Calls `late` when the next operation takes longer; one timer.
  void Allow(absl::Duration time, std::function<void()> late);
  void EndTimer();
  // Notices a client that has gone while its request is being served.
  void WatchForEnd();
  void LookForEnd();
  void NoteGone();

  std::string HeadOf(const Response& response, std::optional<int64_t> length) const;
  void Respond(Response response, std::optional<int64_t> length, BodySource source, std::function<void()> sent);
  void WriteAll(std::shared_ptr<const std::string> bytes, size_t from, Done done);
  void SendPieces(int64_t left, BodySource source, std::function<void()> sent);
  // The answer has left, or cannot.
  void Finish(bool whole, const std::function<void()>& sent);
  void Goodbye();

  const Shared shared_;
  const std::string machine_;
  const bool tls_;
  std::function<void()> ended_;
  boost::asio::steady_timer timer_;
  boost::asio::steady_timer look_timer_;
  uint64_t timer_round_ = 0;
  bool timed_out_ = false;
  bool waiting_to_read_ = false;
  bool closed_ = false;
  bool keep_alive_ = false;
  bool head_only_ = false;
  std::shared_ptr<SessionExchange> exchange_;
};

}  // namespace loupe::coordinator::http
