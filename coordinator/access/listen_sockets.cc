#include "coordinator/access/listen_sockets.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "common/status_macros.h"
#include "coordinator/access/server_tls.h"
#include "fmt/format.h"

namespace loupe::coordinator::access {
namespace {

constexpr int kMostHanded = 1024;

int PortOf(const sockaddr_storage& address) {
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(address).sin6_port
                                             : reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

void SetPort(sockaddr_storage& address, int port) {
  const in_port_t number = htons(static_cast<uint16_t>(port));
  if (address.ss_family == AF_INET6) {
    reinterpret_cast<sockaddr_in6&>(address).sin6_port = number;
  } else {
    reinterpret_cast<sockaddr_in&>(address).sin_port = number;
  }
}

sockaddr_storage OwnAddressOf(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0) address.ss_family = AF_UNSPEC;
  return address;
}

// "127.0.0.1:7117", "[::]:7117".
std::string TextOf(const sockaddr_storage& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (address.ss_family == AF_INET6) {
    ::inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6&>(address).sin6_addr, text.data(), text.size());
    return fmt::format("[{}]:{}", text.data(), PortOf(address));
  }
  ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in&>(address).sin_addr, text.data(), text.size());
  return fmt::format("{}:{}", text.data(), PortOf(address));
}

int OptionOf(int socket, int option) {
  int value = -1;
  socklen_t size = sizeof value;
  return ::getsockopt(socket, SOL_SOCKET, option, &value, &size) == 0 ? value : -1;
}

absl::Status BindError(const std::string& address, std::string_view option, int error) {
  const absl::Status status = absl::ErrnoToStatus(
      error, fmt::format("cannot listen on '{}' (another program has the port, or the address is not this machine's): "
                         "choose another with {}",
                         address, option));
  return error == EADDRINUSE ? absl::AlreadyExistsError(status.message()) : status;
}

// The socket, or an errno below zero.
int Bind(const addrinfo& where, int port) {
  const int socket = ::socket(where.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (socket < 0) return -errno;
  // After a restart the port is free at once. Without SO_REUSEPORT: two coordinators must never share one in silence.
  const int on = 1;
  ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_storage address{};
  std::copy_n(reinterpret_cast<const char*>(where.ai_addr), where.ai_addrlen, reinterpret_cast<char*>(&address));
  if (port != 0) SetPort(address, port);
  if (::bind(socket, reinterpret_cast<const sockaddr*>(&address), where.ai_addrlen) == 0 &&
      ::listen(socket, SOMAXCONN) == 0) {
    return socket;
  }
  const int error = errno;
  ::close(socket);
  return -error;
}

// A variable of systemd's protocol; empty where it is not set, which unset it is afterwards.
std::string TakeVariable(const char* name) {
  const char* text = std::getenv(name);
  std::string value = text == nullptr ? "" : text;
  ::unsetenv(name);
  return value;
}

}  // namespace

absl::StatusOr<ListenSockets> ListenSockets::Open(const std::string& address, std::string_view option) {
  const size_t colon = address.rfind(':');
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int result = colon == std::string::npos || colon == 0
                         ? EAI_NONAME
                         : ::getaddrinfo(host.c_str(), address.substr(colon + 1).c_str(), &hints, &found);
  if (result != 0) {
    return absl::InvalidArgumentError(
        fmt::format("cannot listen on '{}': {}; {} expects host:port, such as 127.0.0.1:7117", address,
                    ::gai_strerror(result), option));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> addresses(found, &::freeaddrinfo);
  ListenSockets sockets;
  int missing = 0;
  for (const addrinfo* where = found; where != nullptr; where = where->ai_next) {
    // One port on every address.
    const int bound = Bind(*where, sockets.empty() ? 0 : sockets.port());
    // "localhost" also stands for ::1, on machines without IPv6 too.
    if (bound == -EAFNOSUPPORT || bound == -EADDRNOTAVAIL) {
      missing = -bound;
    } else if (bound < 0) {
      return BindError(address, option, -bound);
    } else {
      LOUPE_RETURN_IF_ERROR(sockets.Add(bound));
    }
  }
  if (sockets.empty()) return BindError(address, option, missing);
  return sockets;
}

ListenSockets& ListenSockets::operator=(ListenSockets&& other) noexcept {
  if (this != &other) {
    Close();
    fds_ = std::exchange(other.fds_, {});
  }
  return *this;
}

absl::Status ListenSockets::Add(int fd) {
  const sockaddr_storage own = OwnAddressOf(fd);
  if ((own.ss_family != AF_INET && own.ss_family != AF_INET6) || OptionOf(fd, SO_TYPE) != SOCK_STREAM ||
      OptionOf(fd, SO_PROTOCOL) != IPPROTO_TCP || OptionOf(fd, SO_ACCEPTCONN) != 1) {
    return absl::InvalidArgumentError(fmt::format("descriptor {} is no TCP socket that listens", fd));
  }
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
  // Connections inherit it: calls are small and wait for their answers.
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  fds_.push_back(fd);
  return absl::OkStatus();
}

std::string ListenSockets::address() const {
  std::string first;
  for (const int fd : fds_) {
    std::string text = TextOf(OwnAddressOf(fd));
    if (!IsLoopback(text)) return text;
    if (first.empty()) first = std::move(text);
  }
  return first;
}

int ListenSockets::port() const {
  const std::string text = address();
  int port = 0;
  return absl::SimpleAtoi(text.substr(text.rfind(':') + 1), &port) ? port : 0;
}

std::vector<int> ListenSockets::Release() { return std::exchange(fds_, {}); }

void ListenSockets::Close() {
  for (const int fd : fds_) ::close(fd);
  fds_.clear();
}

absl::StatusOr<HandedSockets> TakeHandedSockets(int first) {
  const std::string pid = TakeVariable("LISTEN_PID"), count_text = TakeVariable("LISTEN_FDS");
  const std::string names_text = TakeVariable("LISTEN_FDNAMES");
  HandedSockets handed;
  // Whoever they were meant for may have started this program: they are none of ours.
  if (pid.empty() || count_text.empty() || pid != std::to_string(::getpid())) return handed;
  int count = 0;
  if (!absl::SimpleAtoi(count_text, &count) || count < 0 || count > kMostHanded) {
    return absl::InvalidArgumentError(
        fmt::format("LISTEN_FDS is '{}': expected how many sockets are handed over", count_text));
  }
  for (int fd = first; fd < first + count; ++fd) ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  const std::vector<std::string> names = absl::StrSplit(names_text, ':');
  for (int i = 0; i < count; ++i) {
    const std::string name = static_cast<size_t>(i) < names.size() ? names[static_cast<size_t>(i)] : "";
    if (name != "grpc" && name != "http") {
      return absl::InvalidArgumentError(
          fmt::format("the socket that is handed over as descriptor {} is named '{}': expected 'grpc' or 'http' "
                      "(FileDescriptorName= in the socket's unit)",
                      first + i, name));
    }
    ListenSockets& sockets = name == "grpc" ? handed.grpc : handed.http;
    if (const absl::Status added = sockets.Add(first + i); !added.ok()) {
      return absl::InvalidArgumentError(
          fmt::format("what is handed over as '{}' does not serve: {} (ListenStream=host:port with Accept=no is)", name,
                      std::string(added.message())));
    }
  }
  return handed;
}

}  // namespace loupe::coordinator::access
