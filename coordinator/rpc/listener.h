// The coordinator's acceptor: takes connections from listening sockets and hands them to gRPC, as many as there are
// file descriptors for.
//
// gRPC 1.51 would accept by itself, but its socket is dead for good once accept has met the limit of open files. Here
// some descriptors are always kept back for database and artifacts: a connection beyond that is closed at once, its
// client tries again later, and everybody else goes on. One machine has at most kMostOfOneMachine connections, for the
// same reason; programs of this machine are not counted.
#pragma once

#include <grpcpp/server_builder.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/access/listen_sockets.h"

namespace loupe::coordinator::rpc {

// A worker has one connection, a person two or three; behind one address there may be a whole cluster.
inline constexpr size_t kMostOfOneMachine = 4000;

// Open, Start once, Stop. Not thread-safe; accepts on a thread of its own.
class Listener {
 public:
  // Connections wait in the kernel's queue until Start.
  static absl::StatusOr<std::unique_ptr<Listener>> Open(access::ListenSockets sockets);
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  int port() const { return port_; }

  // Gives connections to a server that has been started.
  void Start(std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> server);
  // Closes the sockets; call it before the server is shut down. Again: nothing.
  void Stop();

 private:
  Listener() = default;
  void Loop();
  void Accept(int socket);
  void WarnOfLimit();
  // Whether the machine at the other end may have this connection too; enters it.
  bool HasRoom(int connection, const std::string& machine);

  access::ListenSockets sockets_;
  int port_ = 0;
  // Ends the loop when it is written to.
  int stop_event_ = -1;
  // Descriptors from this number on are for others than connections: the kernel gives out the lowest free number.
  int first_reserved_ = 0;
  std::chrono::steady_clock::time_point silent_until_;
  // By machine: descriptors handed to gRPC, which closes them, and the sockets' cookies, by which one that is closed is
  // told from another under the same number.
  std::map<std::string, std::vector<std::pair<int, uint64_t>>> connections_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> server_;
  std::thread thread_;
};

}  // namespace loupe::coordinator::rpc
