// A client of HTTP/1.1 for tests, on a plain socket: whole answers, streams of events, and bytes as they are.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"

namespace loupe::testing {

struct HttpAnswer {
  // 0: the connection ended without one.
  int status = 0;
  // Names in lower case.
  std::map<std::string, std::string> headers;
  std::string body;
};

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

// One connection to a port of this machine. Not thread-safe; waits at most some seconds for anything.
class HttpConnection {
 public:
  explicit HttpConnection(int port);
  ~HttpConnection();
  HttpConnection(const HttpConnection&) = delete;
  HttpConnection& operator=(const HttpConnection&) = delete;

  // A request with Host and Content-Length, and its whole answer. The connection may be used again.
  HttpAnswer Fetch(const std::string& method, const std::string& target, const HttpHeaders& headers = {},
                   std::string_view body = "");

  // As they are. False when the other end has closed.
  bool Send(std::string_view bytes);
  // `has_body` false: of HEAD.
  HttpAnswer ReadAnswer(bool has_body = true);
  HttpAnswer ReadHead();
  // Up to and with `end`, or nothing within `wait`, or once the other end has closed.
  std::optional<std::string> ReadUntil(std::string_view end, absl::Duration wait = absl::Seconds(10));
  // Whether the other end closes within `wait`; what it sends until then is dropped.
  bool IsClosedWithin(absl::Duration wait);

 private:
  // False at the end, or after `deadline`.
  bool Fill(absl::Time deadline);

  int fd_ = -1;
  std::string buffer_;
};

HttpAnswer Fetch(int port, const std::string& method, const std::string& target, const HttpHeaders& headers = {},
                 std::string_view body = "");

// A server-sent event.
struct SentEvent {
  std::string id;
  std::string name;
  std::string data;
};

class EventReader {
 public:
  EventReader(int port, const std::string& target, HttpHeaders headers);
  const HttpAnswer& head() const { return head_; }
  // The next one, comments and retries passed over; nothing within `wait`, or at the stream's end.
  std::optional<SentEvent> Next(absl::Duration wait = absl::Seconds(10));
  HttpConnection& connection() { return connection_; }

 private:
  HttpConnection connection_;
  HttpAnswer head_;
};

}  // namespace loupe::testing
