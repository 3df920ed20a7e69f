#include "tests/testing/http_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>

#include "absl/time/clock.h"
#include "fmt/format.h"

namespace loupe::testing {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(20);

std::string Lower(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower;
}

}  // namespace

HttpConnection::HttpConnection(int port) {
  fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    ::close(fd_);
    fd_ = -1;
  }
}

HttpConnection::~HttpConnection() {
  if (fd_ >= 0) ::close(fd_);
}

bool HttpConnection::Send(std::string_view bytes) {
  while (fd_ >= 0 && !bytes.empty()) {
    const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return fd_ >= 0;
}

bool HttpConnection::Fill(absl::Time deadline) {
  if (fd_ < 0) return false;
  pollfd waited{.fd = fd_, .events = POLLIN, .revents = 0};
  const int ms = static_cast<int>(std::max<int64_t>(0, absl::ToInt64Milliseconds(deadline - absl::Now())));
  if (::poll(&waited, 1, ms) <= 0) return false;
  char bytes[65536];
  const ssize_t got = ::recv(fd_, bytes, sizeof bytes, 0);
  if (got <= 0) {
    ::close(fd_);
    fd_ = -1;
    return false;
  }
  buffer_.append(bytes, static_cast<size_t>(got));
  return true;
}

std::optional<std::string> HttpConnection::ReadUntil(std::string_view end, absl::Duration wait) {
  const absl::Time deadline = absl::Now() + wait;
  size_t at = 0;
  while ((at = buffer_.find(end)) == std::string::npos) {
    if (!Fill(deadline)) return std::nullopt;
  }
  std::string text = buffer_.substr(0, at + end.size());
  buffer_.erase(0, at + end.size());
  return text;
}

bool HttpConnection::IsClosedWithin(absl::Duration wait) {
  const absl::Time deadline = absl::Now() + wait;
  while (Fill(deadline)) buffer_.clear();
  return fd_ < 0;
}

HttpAnswer HttpConnection::ReadHead() {
  HttpAnswer answer;
  const std::optional<std::string> head = ReadUntil("\r\n\r\n", kPatience);
  if (!head || !head->starts_with("HTTP/1.1 ")) return answer;
  answer.status = std::atoi(head->c_str() + 9);
  size_t at = head->find("\r\n") + 2;
  while (at < head->size() - 2) {
    const size_t end = head->find("\r\n", at);
    const std::string line = head->substr(at, end - at);
    const size_t colon = line.find(": ");
    if (colon != std::string::npos) answer.headers[Lower(line.substr(0, colon))] = line.substr(colon + 2);
    at = end + 2;
  }
  return answer;
}

HttpAnswer HttpConnection::ReadAnswer(bool has_body) {
  HttpAnswer answer = ReadHead();
  const auto length = answer.headers.find("content-length");
  if (!has_body || length == answer.headers.end()) return answer;
  const size_t bytes = std::strtoul(length->second.c_str(), nullptr, 10);
  const absl::Time deadline = absl::Now() + kPatience;
  while (buffer_.size() < bytes && Fill(deadline)) {
  }
  answer.body = buffer_.substr(0, bytes);
  buffer_.erase(0, answer.body.size());
  return answer;
}

HttpAnswer HttpConnection::Fetch(const std::string& method, const std::string& target, const HttpHeaders& headers,
                                 std::string_view body) {
  std::string request = fmt::format("{} {} HTTP/1.1\r\nHost: localhost\r\n", method, target);
  for (const auto& [name, value] : headers) request += fmt::format("{}: {}\r\n", name, value);
  if (!body.empty() || method == "POST") request += fmt::format("Content-Length: {}\r\n", body.size());
  request += "\r\n";
  request += body;
  Send(request);
  return ReadAnswer(method != "HEAD");
}

HttpAnswer Fetch(int port, const std::string& method, const std::string& target, const HttpHeaders& headers,
                 std::string_view body) {
  return HttpConnection(port).Fetch(method, target, headers, body);
}

EventReader::EventReader(int port, const std::string& target, HttpHeaders headers) : connection_(port) {
  std::string request = fmt::format("GET {} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n", target);
  for (const auto& [name, value] : headers) request += fmt::format("{}: {}\r\n", name, value);
  connection_.Send(request + "\r\n");
  head_ = connection_.ReadHead();
}

std::optional<SentEvent> EventReader::Next(absl::Duration wait) {
  const absl::Time deadline = absl::Now() + wait;
  for (;;) {
    const std::optional<std::string> block = connection_.ReadUntil("\n\n", deadline - absl::Now());
    if (!block) return std::nullopt;
    SentEvent event;
    size_t at = 0;
    while (at < block->size() - 1) {
      const size_t end = block->find('\n', at);
      const std::string line = block->substr(at, end - at);
      if (line.starts_with("id: ")) event.id = line.substr(4);
      if (line.starts_with("event: ")) event.name = line.substr(7);
      if (line.starts_with("data: ")) event.data = line.substr(6);
      at = end + 1;
    }
    if (!event.name.empty()) return event;
  }
}

}  // namespace loupe::testing
