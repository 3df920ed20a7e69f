#include "coordinator/http/http_server.h"

#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "common/atomic_file.h"
#include "common/guarded.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "coordinator/http/session.h"
#include "coordinator/http/tls_context.h"
#include "fmt/format.h"

namespace loupe::coordinator::http {

namespace asio = boost::asio;
using Tcp = asio::ip::tcp;
using boost::system::error_code;

namespace {

constexpr std::chrono::milliseconds kAcceptPause{100};
constexpr std::chrono::minutes kBetweenWarnings{1};

// An IPv4 client of a socket for both is this one, too.
asio::ip::address AddressOf(const Tcp::endpoint& peer) {
  asio::ip::address address = peer.address();
  if (!address.is_v6() || !address.to_v6().is_v4_mapped()) return address;
  return asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6());
}

std::string MachineOf(const asio::ip::address& peer) {
  return fmt::format("{}:{}", peer.is_v6() ? "ipv6" : "ipv4", peer.to_string());
}

// A quarter of what this process may have; the rest is for gRPC, the database and artifacts.
size_t MostConnections(size_t wanted) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return wanted;
  return std::min<size_t>(wanted, std::max<rlim_t>(limit.rlim_cur / 4, 16));
}

}  // namespace

// All but `mutex`'s is the i/o thread's, once it runs.
struct HttpServer::Parts {
  Parts(const access::ServerTls& server_tls, const HttpLimits& given, Handler given_handler)
      : limits(given), handler(std::move(given_handler)), tls(server_tls), most(MostConnections(given.connections)) {}

  const HttpLimits limits;
  const Handler handler;
  asio::io_context io{1};
  TlsContext tls;
  const size_t most;
  bool stopping = false;
  int port = 0;
  std::vector<Tcp::acceptor> acceptors;
  asio::steady_timer pause{io};
  std::map<const Session*, std::weak_ptr<Session>> sessions;
  std::map<std::string, size_t> machines;
  std::chrono::steady_clock::time_point silent_until;
  std::mutex mutex;
  std::condition_variable changed;
  size_t open = 0;
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work;
  std::thread thread;

  void Accept(Tcp::acceptor& acceptor) {
    acceptor.async_accept([this, &acceptor](const error_code& error, Tcp::socket socket) {
      if (stopping) return;
      if (error) {
        // No descriptors are left: the kernel's queue waits.
        pause.expires_after(kAcceptPause);
        pause.async_wait([this, &acceptor](const error_code& ended) {
          if (!ended && !stopping) Accept(acceptor);
        });
        return;
      }
      Take(std::move(socket));
      Accept(acceptor);
    });
  }

  void Take(Tcp::socket socket) {
    error_code error;
    const Tcp::endpoint endpoint = socket.remote_endpoint(error);
    if (error) return;
    const asio::ip::address peer = AddressOf(endpoint);
    const std::string machine = MachineOf(peer);
    const size_t of_machine = machines[machine];
    if (sessions.size() >= most || (!peer.is_loopback() && of_machine >= limits.connections_of_one_machine)) {
      if (of_machine == 0) machines.erase(machine);
      Warn(fmt::format("{} connections by HTTP are open, {} of them from {}: further ones are turned away",
                       sessions.size(), of_machine, machine));
      return;
    }
    const auto context = tls.Get();
    if (!context.ok()) Warn(std::string(context.status().message()));
    if (!context.ok() && tls.last() == nullptr) return;
    socket.set_option(Tcp::no_delay(true), error);
    ++machines[machine];
    auto key = std::make_shared<const Session*>(nullptr);
    const std::shared_ptr<Session> session =
        Session::Make({io, limits, handler, stopping}, std::move(socket), context.ok() ? *context : tls.last(), machine,
                      [this, machine, key] { Forget(*key, machine); });
    *key = session.get();
    sessions.emplace(session.get(), session);
    {
      const std::lock_guard<std::mutex> lock(mutex);
      ++open;
    }
    session->Start();
  }

  void Forget(const Session* session, const std::string& machine) {
    sessions.erase(session);
    const auto of_machine = machines.find(machine);
    if (of_machine != machines.end() && --of_machine->second == 0) machines.erase(of_machine);
    const std::lock_guard<std::mutex> lock(mutex);
    --open;
    changed.notify_all();
  }

  void Warn(const std::string& what) {
    const auto now = std::chrono::steady_clock::now();
    if (now < silent_until) return;
    silent_until = now + kBetweenWarnings;
    LogWarning("{}", what);
  }

  void ForEach(void (Session::*what)()) {
    std::vector<std::shared_ptr<Session>> all;
    for (const auto& [key, session] : sessions) {
      if (auto held = session.lock()) all.push_back(std::move(held));
    }
    for (const std::shared_ptr<Session>& session : all) ((*session).*what)();
  }
};

HttpServer::HttpServer(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(access::ListenSockets sockets,
                                                              const access::ServerTls& tls, const HttpLimits& limits,
                                                              Handler handler) {
  auto parts = std::make_unique<Parts>(tls, limits, std::move(handler));
  Parts& p = *parts;
  LOUPE_RETURN_IF_ERROR(p.tls.Get().status());
  p.port = sockets.port();
  for (const int fd : sockets.Release()) {
    sockaddr_storage own{};
    socklen_t size = sizeof own;
    ::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &size);
    error_code error;
    p.acceptors.emplace_back(p.io).assign(own.ss_family == AF_INET6 ? Tcp::v6() : Tcp::v4(), fd, error);
    if (error) return absl::InternalError(fmt::format("cannot listen for HTTP: {}", error.message()));
  }
  p.work.emplace(p.io.get_executor());
  for (Tcp::acceptor& acceptor : p.acceptors) p.Accept(acceptor);
  p.thread = std::thread([&p] {
    // Memory was short within one connection's callback; the others go on.
    while (!GuardedTurn("a callback of HTTP", [&p] { p.io.run(); })) {
    }
  });
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(parts)));
}

int HttpServer::port() const { return parts_->port; }

void HttpServer::StopAccepting() {
  asio::post(parts_->io, [p = parts_.get()] {
    if (std::exchange(p->stopping, true)) return;
    error_code ignored;
    for (Tcp::acceptor& acceptor : p->acceptors) acceptor.close(ignored);
    p->pause.cancel();
    p->ForEach(&Session::CloseIfIdle);
  });
}

void HttpServer::Stop(absl::Duration grace) {
  if (!parts_->thread.joinable()) return;
  StopAccepting();
  {
    std::unique_lock<std::mutex> lock(parts_->mutex);
    parts_->changed.wait_for(lock, absl::ToChronoMilliseconds(grace), [this] { return parts_->open == 0; });
  }
  asio::post(parts_->io, [p = parts_.get()] {
    p->ForEach(&Session::Close);
    p->work.reset();
  });
  parts_->thread.join();
}

HttpServer::~HttpServer() { Stop(absl::ZeroDuration()); }

}  // namespace loupe::coordinator::http
