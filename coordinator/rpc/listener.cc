#include "coordinator/rpc/listener.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <utility>

#include "common/guarded.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::coordinator::rpc {
namespace {

// A reader's connection to the database has three files, an upload one; there are at most 256 threads for them
// (server.cc).
constexpr rlim_t kMostReserved = 1280;
// While nothing can be accepted.
constexpr std::chrono::milliseconds kPause{100};
constexpr std::chrono::minutes kBetweenWarnings{1};
constexpr size_t kManyMachines = 10000;

int FirstReserved() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return INT_MAX;
  const rlim_t most = std::min<rlim_t>(limit.rlim_cur, INT_MAX);
  return static_cast<int>(most - std::min(most / 4, kMostReserved));
}

// Empty for this machine itself.
std::string MachineAt(const sockaddr_storage& address) {
  char text[INET6_ADDRSTRLEN] = {};
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    if ((ntohl(v4.sin_addr.s_addr) >> 24) == 127) return {};
    ::inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
  } else if (address.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
    // ::ffff:127.x.y.z: by IPv4, of a socket for both.
    const bool own_by_v4 = IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr) && v6.sin6_addr.s6_addr[12] == 127;
    if (IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr) || own_by_v4) return {};
    ::inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
  }
  return text;
}

// Zero for a descriptor that is closed or no socket.
uint64_t CookieOf(int socket) {
  uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  return ::getsockopt(socket, SOL_SOCKET, SO_COOKIE, &cookie, &size) == 0 ? cookie : 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Listener>> Listener::Open(access::ListenSockets sockets) {
  std::unique_ptr<Listener> listener(new Listener());
  listener->sockets_ = std::move(sockets);
  listener->port_ = listener->sockets_.port();
  listener->first_reserved_ = FirstReserved();
  listener->stop_event_ = ::eventfd(0, EFD_CLOEXEC);
  if (listener->stop_event_ < 0) return absl::ErrnoToStatus(errno, "cannot make an eventfd");
  return listener;
}

Listener::~Listener() {
  Stop();
  if (stop_event_ >= 0) ::close(stop_event_);
}

void Listener::Start(std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> server) {
  server_ = std::move(server);
  thread_ = std::thread([this] { Loop(); });
}

void Listener::Stop() {
  if (thread_.joinable()) {
    ::eventfd_write(stop_event_, 1);
    thread_.join();
  }
  sockets_.Close();
}

void Listener::Loop() {
  std::vector<pollfd> waited;
  const std::vector<int>& sockets = sockets_.fds();
  waited.reserve(sockets.size() + 1);
  for (const int socket : sockets) waited.push_back({.fd = socket, .events = POLLIN, .revents = 0});
  waited.push_back({.fd = stop_event_, .events = POLLIN, .revents = 0});
  for (;;) {
    if (::poll(waited.data(), waited.size(), -1) < 0 && errno != EINTR) std::this_thread::sleep_for(kPause);
    if (waited.back().revents != 0) return;
    for (size_t i = 0; i < sockets.size(); ++i) {
      if (waited[i].revents != 0) Accept(sockets[i]);
    }
  }
}

void Listener::Accept(int socket) {
  sockaddr_storage peer{};
  socklen_t peer_size = sizeof peer;
  const int connection =
      ::accept4(socket, reinterpret_cast<sockaddr*>(&peer), &peer_size, SOCK_CLOEXEC | SOCK_NONBLOCK);
  // Others have used up what was kept for them, or the whole machine's: the queue waits.
  const bool none_left = connection < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM);
  if (none_left) std::this_thread::sleep_for(kPause);
  if (none_left || connection >= first_reserved_) WarnOfLimit();
  if (connection < 0) return;
  bool has_room = false;  // short of memory, too
  if (connection < first_reserved_) {
    GuardedTurn("accepting a connection", [&] { has_room = HasRoom(connection, MachineAt(peer)); });
  }
  if (!has_room) {
    ::close(connection);
    return;
  }
  grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters parameters;
  parameters.listener_fd = socket;
  parameters.fd = connection;
  server_->HandleNewConnection(&parameters);
}

bool Listener::HasRoom(int connection, const std::string& machine) {
  if (machine.empty()) return true;
  auto& open = connections_[machine];
  const auto closed = [](const auto& entry) { return CookieOf(entry.first) != entry.second; };
  // Looked through when it is full, and now and then for all machines, so that those which are gone are forgotten.
  if (open.size() >= kMostOfOneMachine) std::erase_if(open, closed);
  if (open.size() >= kMostOfOneMachine) {
    const auto now = std::chrono::steady_clock::now();
    if (now >= silent_until_)
      LogWarning("{} has {} connections, which is the most: further ones are turned away", machine, open.size());
    if (now >= silent_until_) silent_until_ = now + kBetweenWarnings;
    return false;
  }
  open.emplace_back(connection, CookieOf(connection));
  if (connections_.size() > kManyMachines) {
    for (auto& entry : connections_) std::erase_if(entry.second, closed);
    std::erase_if(connections_, [](const auto& entry) { return entry.second.empty(); });
  }
  return true;
}

void Listener::WarnOfLimit() {
  const auto now = std::chrono::steady_clock::now();
  if (now < silent_until_) return;
  silent_until_ = now + kBetweenWarnings;
  LogWarning(
      "{} file descriptors are in use: further connections are turned away, and try again; raise the limit of open files "
      "(ulimit -Hn) to serve more clients",
      first_reserved_);
}

}  // namespace loupe::coordinator::rpc
