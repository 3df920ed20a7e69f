#include "tests/testing/http_receiver.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstdlib>
#include <utility>

#include "fmt/format.h"

namespace loupe::testing {

namespace {

// A socket that listens on a free port of this machine, which is left in `port`.
int Listen(int& port) {
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  ::listen(listener, 16);
  socklen_t size = sizeof address;
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
  port = ntohs(address.sin_port);
  return listener;
}

}  // namespace

// The kernel takes the connections.
SilentListener::SilentListener() : socket_(Listen(port_)) {}

SilentListener::~SilentListener() { ::close(socket_); }

HttpReceiver::HttpReceiver(std::deque<int> statuses) : statuses_(std::move(statuses)) {
  socket_ = Listen(port_);
  thread_ = std::thread([this] { Loop(); });
}

HttpReceiver::~HttpReceiver() {
  ::shutdown(socket_, SHUT_RDWR);
  thread_.join();
  for (const int connection : unanswered_) ::close(connection);
  ::close(socket_);
}

void HttpReceiver::Loop() {
  for (;;) {
    const int connection = ::accept4(socket_, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection < 0) return;
    if (Serve(connection)) {
      ::close(connection);
    } else {
      unanswered_.push_back(connection);
    }
  }
}

bool HttpReceiver::Serve(int connection) {
  std::string text;
  size_t head = std::string::npos;
  size_t wanted = 0;
  ReceivedPost post;
  while (head == std::string::npos || text.size() < head + 4 + wanted) {
    char bytes[4096];
    const ssize_t got = ::recv(connection, bytes, sizeof bytes, 0);
    if (got <= 0) return true;
    text.append(bytes, static_cast<size_t>(got));
    if (head != std::string::npos || (head = text.find("\r\n\r\n")) == std::string::npos) continue;
    const size_t line = text.find("\r\n");
    const size_t from = text.find(' ') + 1;
    post.target = text.substr(from, text.find(' ', from) - from);
    for (size_t at = line + 2; at < head;) {
      const size_t end = text.find("\r\n", at);
      const size_t colon = text.find(": ", at);
      std::string name = text.substr(at, colon - at);
      std::transform(name.begin(), name.end(), name.begin(),
                     [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
      post.headers[name] = text.substr(colon + 2, end - colon - 2);
      at = end + 2;
    }
    wanted = std::strtoul(post.headers["content-length"].c_str(), nullptr, 10);
  }
  post.body = text.substr(head + 4, wanted);
  int status = 204;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!statuses_.empty()) {
      status = statuses_.front();
      statuses_.pop_front();
    }
    received_.push_back(std::move(post));
  }
  changed_.notify_all();
  if (status == 0) return false;
  const std::string answer =
      fmt::format("HTTP/1.1 {} Status\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status);
  static_cast<void>(::send(connection, answer.data(), answer.size(), MSG_NOSIGNAL));
  return true;
}

std::vector<ReceivedPost> HttpReceiver::Wait(size_t count, absl::Duration wait) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait_for(lock, absl::ToChronoMilliseconds(wait), [&] { return received_.size() >= count; });
  return received_;
}

}  // namespace loupe::testing
