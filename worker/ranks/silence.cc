#include "worker/ranks/silence.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <memory>

#include "absl/strings/numbers.h"

namespace loupe::worker::ranks {

void EndWhenSilent(int socket, int seconds) {
  constexpr int kTimes = 3;
  // Half of the time nothing is asked; what was sent and is not acknowledged is the other option's.
  const int on = 1, idle = seconds / 2, between = seconds / 2 / kTimes, unanswered_ms = seconds * 1000;
  ::setsockopt(socket, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  ::setsockopt(socket, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
  ::setsockopt(socket, IPPROTO_TCP, TCP_KEEPINTVL, &between, sizeof between);
  ::setsockopt(socket, IPPROTO_TCP, TCP_KEEPCNT, &kTimes, sizeof kTimes);
  ::setsockopt(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, &unanswered_ms, sizeof unanswered_ms);
}

void EndAllWhenSilent(const std::string& interface, int seconds) {
  const std::unique_ptr<DIR, int (*)(DIR*)> all(::opendir("/proc/self/fd"), &::closedir);
  if (all == nullptr) return;
  while (const dirent* entry = ::readdir(all.get())) {
    int fd = -1;
    sockaddr_in own{}, other{};
    socklen_t own_size = sizeof own, other_size = sizeof other;
    std::array<char, INET_ADDRSTRLEN> text{};
    // Connected, and by this interface: what is no such socket fails somewhere here.
    if (!absl::SimpleAtoi(entry->d_name, &fd) || ::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &own_size) != 0 ||
        own.sin_family != AF_INET || ::getpeername(fd, reinterpret_cast<sockaddr*>(&other), &other_size) != 0 ||
        ::inet_ntop(AF_INET, &own.sin_addr, text.data(), text.size()) == nullptr || interface != text.data()) {
      continue;
    }
    EndWhenSilent(fd, seconds);
  }
}

}  // namespace loupe::worker::ranks
