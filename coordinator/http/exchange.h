// One request and its answer, as handlers see them: no Beast, no sockets.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace loupe::coordinator::http {

struct Request {
  // "GET"
  std::string method;
  // "/v1/sweeps/a", still percent-encoded; and what follows '?'.
  std::string path;
  std::string query;
  // Names in lower case, in order. At most 100.
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  // "ipv4:127.0.0.1"
  std::string machine;
  bool tls = false;

  // The first of that name (in lower case); empty where there is none.
  std::string_view Header(std::string_view name) const;
  bool HasHeader(std::string_view name) const;
  // Of "a=1&b=2", percent-decoded; nothing where it is missing or badly encoded.
  std::optional<std::string> QueryValue(std::string_view name) const;
};

// "%2F" to "/"; nothing for a bad encoding or a zero byte.
std::optional<std::string> PercentDecoded(std::string_view text);

struct Response {
  int status = 200;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
};

// The rest of a body that is longer than one buffer: gives the next piece, an empty one at its end, or why there is
// none (the connection is then cut, for the head is gone). Called on the i/o thread and answers on any.
using Piece = absl::StatusOr<std::string>;
using BodySource = std::function<void(std::function<void(Piece)> deliver)>;

// Owned by its connection until it has ended, and by whoever will answer. Thread-safe; callbacks run on the i/o thread
// and must be quick.
class Exchange {
 public:
  virtual ~Exchange() = default;

  const Request& request() const { return request_; }

  // The answer, once. `sent` is told when it has left, or cannot.
  virtual void Respond(Response response, std::function<void()> sent) = 0;
  void Respond(Response response) { Respond(std::move(response), nullptr); }
  // The same with a body of `bytes` from `source`.
  virtual void RespondFrom(Response response, int64_t bytes, BodySource source, std::function<void()> sent) = 0;
  // A body without an end of its own: the head, then pieces by Write, each after the last one's `sent`; `sent` is told
  // whether it went. End closes it.
  virtual void BeginStream(Response head, std::function<void(bool)> sent) = 0;
  virtual void Write(std::shared_ptr<const std::string> piece, std::function<void(bool)> sent) = 0;
  virtual void End() = 0;

  // Told once when the client has gone, or Abort was called, before the answer has left; at once where that is so.
  virtual void OnGone(std::function<void()> gone) = 0;
  // Cuts the connection.
  virtual void Abort() = 0;
  // Calls `late` after a while, unless the exchange has ended by then.
  virtual void After(absl::Duration time, std::function<void()> late) = 0;
  // Runs `task` on the i/o thread.
  virtual void Post(std::function<void()> task) = 0;

 protected:
  explicit Exchange(Request request) : request_(std::move(request)) {}

 private:
  const Request request_;
};

// Called on the i/o thread; sees to it that the exchange gets its answer.
using Handler = std::function<void(std::shared_ptr<Exchange>)>;

}  // namespace loupe::coordinator::http
