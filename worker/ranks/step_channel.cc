#include "worker/ranks/step_channel.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <stdexcept>

#include "common/atomic_file.h"
#include "common/random_source.h"
#include "fmt/format.h"
#include "nlohmann/json.hpp"
#include "worker/ranks/silence.h"

namespace loupe::worker::ranks {
namespace {

// A job is a few kilobytes; nobody's number makes this process take gigabytes.
constexpr uint32_t kMostBytes = 64 << 20;
// Before the other side has shown who it is.
constexpr uint32_t kMostHelloBytes = 4096;
constexpr int kHelloSeconds = 10;
// Of another node, which is then taken to be gone; before the ranks' own connections say so (rank_group.cc), which say
// less of it.
constexpr int kSilentNodeSeconds = 60;

std::string Nonce() { return ToHex(SystemRandom().NextToken()) + ToHex(SystemRandom().NextToken()); }

// Of one side's words, so that neither can be answered with its own.
std::string Proof(const std::string& secret, const std::string& words) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
       reinterpret_cast<const unsigned char*>(words.data()), words.size(), digest.data(), &size);
  return {reinterpret_cast<const char*>(digest.data()), size};
}

bool Same(const std::string& a, const std::string& b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string HelloWords(const StepHello& hello, const std::string& theirs, const std::string& ours) {
  return fmt::format("task {} {} {} {} {}", static_cast<int>(hello.kind), hello.rank, hello.job_number, theirs, ours);
}
std::string AnswerWords(const std::string& nonce, const std::string& ours) {
  return fmt::format("worker {} {}", nonce, ours);
}

void SendAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) throw std::runtime_error(fmt::format("another task of the job step is gone ({})", strerror(errno)));
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
}

void ReceiveAll(int fd, char* into, size_t size) {
  while (size > 0) {
    const ssize_t got = ::recv(fd, into, size, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got == 0) throw std::runtime_error("another task of the job step is gone");
    if (got < 0) throw std::runtime_error(fmt::format("another task of the job step is gone ({})", strerror(errno)));
    into += got;
    size -= static_cast<size_t>(got);
  }
}

std::string ReceiveUpTo(int fd, uint32_t most) {
  uint32_t size = 0;
  ReceiveAll(fd, reinterpret_cast<char*>(&size), sizeof size);
  size = ntohl(size);
  if (size > most) throw std::runtime_error("a message of another task is too long");
  std::string message(size, '\0');
  ReceiveAll(fd, message.data(), size);
  return message;
}

}  // namespace

std::string StepFile::Encode() const {
  return nlohmann::json{{"addresses", addresses}, {"port", port}, {"secret", secret}}.dump() + "\n";
}

StepFile StepFile::Read(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) throw std::runtime_error(fmt::format("{}: {}", path, strerror(errno)));
  if ((info.st_mode & 077) != 0 || info.st_uid != ::geteuid()) {
    throw std::runtime_error(fmt::format("{}: it must be this user's and nobody else may read it", path));
  }
  const auto text = ReadFile(path);
  if (!text.ok()) throw std::runtime_error(std::string(text.status().message()));
  try {
    const auto json = nlohmann::json::parse(*text);
    StepFile file{json.at("addresses").get<std::vector<std::string>>(), json.at("port"), json.at("secret")};
    if (file.secret.empty() || file.addresses.empty()) throw std::runtime_error("");
    return file;
  } catch (const std::exception&) {
    throw std::runtime_error(fmt::format("{}: it is no job step's file", path));
  }
}

std::unique_ptr<StepChannel> StepChannel::Connect(const StepFile& file, const StepHello& hello) {
  std::string why;
  for (const std::string& address : file.addresses) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(file.port));
    if (::inet_pton(AF_INET, address.c_str(), &to.sin_addr) != 1) continue;
    std::unique_ptr<StepChannel> channel(new StepChannel(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)));
    channel->Limit(kHelloSeconds);
    if (::connect(channel->fd_, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) {
      why = fmt::format("{}:{}: {}", address, file.port, strerror(errno));
      continue;
    }
    const std::string theirs = ReceiveUpTo(channel->fd_, kMostHelloBytes);
    const std::string ours = Nonce();
    channel->Send(nlohmann::json{
        {"kind", static_cast<int>(hello.kind)}, {"rank", hello.rank}, {"job", hello.job_number}, {"nonce", ours}}
                      .dump());
    channel->Send(Proof(file.secret, HelloWords(hello, theirs, ours)));
    if (!Same(ReceiveUpTo(channel->fd_, kMostHelloBytes), Proof(file.secret, AnswerWords(theirs, ours)))) {
      throw std::runtime_error(fmt::format("{}:{} is not task 0 of this job step", address, file.port));
    }
    channel->Limit(0);
    return channel;
  }
  throw std::runtime_error(fmt::format("task 0 of the job step cannot be reached ({})", why));
}

std::unique_ptr<StepChannel> StepChannel::Accept(int fd, const std::string& secret, StepHello& hello) {
  std::unique_ptr<StepChannel> channel(new StepChannel(fd));
  channel->Limit(kHelloSeconds);
  try {
    const std::string ours = Nonce();
    channel->Send(ours);
    const auto json = nlohmann::json::parse(ReceiveUpTo(fd, kMostHelloBytes));
    hello = {static_cast<StepHello::Kind>(json.at("kind").get<int>()), json.at("rank"), json.at("job")};
    const std::string theirs = json.at("nonce");
    if (!Same(ReceiveUpTo(fd, kMostHelloBytes), Proof(secret, HelloWords(hello, ours, theirs)))) return nullptr;
    channel->Send(Proof(secret, AnswerWords(ours, theirs)));
    channel->Limit(0);
  } catch (const std::exception&) {
    return nullptr;
  }
  return channel;
}

StepChannel::~StepChannel() { ::close(fd_); }

void StepChannel::Limit(int seconds) {
  const timeval limit{.tv_sec = seconds, .tv_usec = 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  const int on = 1;
  ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  EndWhenSilent(fd_, kSilentNodeSeconds);
}

void StepChannel::Send(std::string_view message) {
  const uint32_t size = htonl(static_cast<uint32_t>(message.size()));
  std::string framed(reinterpret_cast<const char*>(&size), sizeof size);
  framed.append(message);
  SendAll(fd_, framed);
}

std::string StepChannel::Receive() { return ReceiveUpTo(fd_, kMostBytes); }

bool StepChannel::Readable(int milliseconds) const {
  pollfd one{.fd = fd_, .events = POLLIN, .revents = 0};
  return ::poll(&one, 1, milliseconds) > 0;
}

void StepChannel::Shutdown() { ::shutdown(fd_, SHUT_RDWR); }

std::string StepChannel::local_address() const {
  sockaddr_in own{};
  socklen_t size = sizeof own;
  std::array<char, INET_ADDRSTRLEN> text{};
  if (::getsockname(fd_, reinterpret_cast<sockaddr*>(&own), &size) != 0 ||
      ::inet_ntop(AF_INET, &own.sin_addr, text.data(), text.size()) == nullptr) {
    throw std::runtime_error(fmt::format("a connection has no address ({})", strerror(errno)));
  }
  return text.data();
}

}  // namespace loupe::worker::ranks
