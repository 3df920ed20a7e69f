// Listening TCP sockets: of an address that is given, or opened by systemd and handed over at the program's start
// (sd_listen_fds(3)), so that connections wait while the coordinator is started again.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace loupe::coordinator::access {

// Owns them. They do not block, and no program that is started inherits them.
class ListenSockets {
 public:
  // None.
  ListenSockets() = default;
  // Listens on every address that the host of "host:port" stands for; port 0 takes a free one. `option` is what to
  // choose another with. INVALID_ARGUMENT for what is no host:port or no known host; ALREADY_EXISTS when another
  // program has the port, FAILED_PRECONDITION when the address is not this machine's; errors name the address.
  static absl::StatusOr<ListenSockets> Open(const std::string& address, std::string_view option);
  ~ListenSockets() { Close(); }
  ListenSockets(ListenSockets&& other) noexcept { *this = std::move(other); }
  ListenSockets& operator=(ListenSockets&& other) noexcept;

  // Takes over a descriptor. INVALID_ARGUMENT, and it is left alone, when it is no TCP socket that listens.
  absl::Status Add(int fd);

  bool empty() const { return fds_.empty(); }
  const std::vector<int>& fds() const { return fds_; }
  // Numeric, with the port: of the first that other machines reach, or else the first. Whoever asks whether it is
  // loopback alone (IsLoopback) asks of all. Empty for none.
  std::string address() const;
  // That of address(); 0 for none.
  int port() const;
  // They are the caller's from now on.
  std::vector<int> Release();
  void Close();

 private:
  std::vector<int> fds_;
};

// By their names, FileDescriptorName= in a socket's unit.
struct HandedSockets {
  ListenSockets grpc;
  ListenSockets http;
};

// From LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES, which are taken out of the environment; descriptors count from
// `first`, the protocol's. None where nothing was handed to this process. INVALID_ARGUMENT, naming the descriptor, for
// one that is no TCP socket which listens, or has neither name. Call it while there is one thread.
absl::StatusOr<HandedSockets> TakeHandedSockets(int first = 3);

}  // namespace loupe::coordinator::access
