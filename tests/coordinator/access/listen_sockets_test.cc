#include "coordinator/access/listen_sockets.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

namespace loupe::coordinator::access {
namespace {

using ::testing::HasSubstr;

// Of descriptors that are handed over here: this process has lower ones of its own.
constexpr int kFirst = 300;

// Descriptors as systemd leaves them at a program's start, from kFirst on.
class HandOver {
 public:
  HandOver() { Say(std::to_string(::getpid()), "", ""); }
  ~HandOver() {
    for (int fd = kFirst; fd < next_; ++fd) ::close(fd);
  }

  // A TCP socket, listening or not. Its port.
  int AddTcp(bool listening, in_addr_t host = INADDR_LOOPBACK) {
    const int fd = Keep(::socket(AF_INET, SOCK_STREAM, 0));
    sockaddr_in own{};
    own.sin_family = AF_INET;
    own.sin_addr.s_addr = htonl(host);
    socklen_t size = sizeof own;
    EXPECT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&own), size), 0);
    EXPECT_EQ(listening ? ::listen(fd, 16) : 0, 0);
    EXPECT_EQ(::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &size), 0);
    return ntohs(own.sin_port);
  }
  int Keep(int fd) {
    EXPECT_EQ(::dup2(fd, next_), next_);
    ::close(fd);
    return next_++;
  }
  void Say(const std::string& pid, const std::string& count, const std::string& names) {
    ::setenv("LISTEN_PID", pid.c_str(), 1);
    ::setenv("LISTEN_FDS", count.c_str(), 1);
    ::setenv("LISTEN_FDNAMES", names.c_str(), 1);
  }
  absl::StatusOr<HandedSockets> Take(const std::string& names) {
    Say(std::to_string(::getpid()), std::to_string(next_ - kFirst), names);
    return TakeHandedSockets(kFirst);
  }

 private:
  int next_ = kFirst;
};

TEST(ListenSocketsTest, HandedSocketsGoByTheirNames) {
  HandOver over;
  const int http = over.AddTcp(true), grpc = over.AddTcp(true);
  const absl::StatusOr<HandedSockets> handed = over.Take("http:grpc");
  ASSERT_TRUE(handed.ok()) << handed.status();
  EXPECT_EQ(handed->grpc.address(), "127.0.0.1:" + std::to_string(grpc));
  EXPECT_EQ(handed->http.port(), http);
  for (const int fd : {kFirst, kFirst + 1}) {
    EXPECT_NE(::fcntl(fd, F_GETFD) & FD_CLOEXEC, 0) << "a program that is started has it too";
    EXPECT_NE(::fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
  }
  for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) EXPECT_EQ(std::getenv(name), nullptr);
}

TEST(ListenSocketsTest, OneReachableAddressIsSaid) {
  HandOver over;
  over.AddTcp(true);
  const int reachable = over.AddTcp(true, INADDR_ANY);
  const absl::StatusOr<HandedSockets> handed = over.Take("grpc:grpc");
  ASSERT_TRUE(handed.ok()) << handed.status();
  EXPECT_EQ(handed->grpc.fds().size(), 2u);
  // Though another is loopback's: this one decides about TLS.
  EXPECT_EQ(handed->grpc.address(), "0.0.0.0:" + std::to_string(reachable));
}

TEST(ListenSocketsTest, AnotherProcessesSocketsAreLeftAlone) {
  HandOver over;
  over.AddTcp(true);
  over.Say(std::to_string(::getppid()), "1", "grpc");
  const absl::StatusOr<HandedSockets> handed = TakeHandedSockets(kFirst);
  ASSERT_TRUE(handed.ok()) << handed.status();
  EXPECT_TRUE(handed->grpc.empty() && handed->http.empty());
  EXPECT_EQ(::fcntl(kFirst, F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_EQ(std::getenv("LISTEN_PID"), nullptr);
}

TEST(ListenSocketsTest, WhatDoesNotListenIsRefused) {
  const auto refused = [](auto add) {
    HandOver over;
    add(over);
    return std::string(over.Take("grpc").status().message());
  };
  EXPECT_THAT(refused([](HandOver& over) { over.AddTcp(false); }), HasSubstr("descriptor 300 is no TCP socket"));
  EXPECT_THAT(refused([](HandOver& over) { over.Keep(::socket(AF_INET, SOCK_DGRAM, 0)); }), HasSubstr("is no TCP"));
  EXPECT_THAT(refused([](HandOver& over) { over.Keep(::open("/dev/null", O_RDONLY)); }), HasSubstr("is no TCP"));
  EXPECT_THAT(refused([](HandOver& over) {
                const int fd = over.Keep(::socket(AF_UNIX, SOCK_STREAM, 0));
                sockaddr_un nameless{};
                nameless.sun_family = AF_UNIX;
                ::bind(fd, reinterpret_cast<const sockaddr*>(&nameless), sizeof(sa_family_t));
                ::listen(fd, 1);
              }),
              HasSubstr("is no TCP"));
  // It was promised and is not there.
  HandOver none;
  none.Say(std::to_string(::getpid()), "1", "grpc");
  EXPECT_THAT(std::string(TakeHandedSockets(kFirst).status().message()), HasSubstr("is no TCP"));
}

TEST(ListenSocketsTest, UnknownNamesAndCountsAreRefused) {
  HandOver over;
  over.AddTcp(true);
  EXPECT_THAT(std::string(over.Take("loupe-coordinator.socket").status().message()),
              HasSubstr("is named 'loupe-coordinator.socket': expected 'grpc' or 'http'"));
  EXPECT_THAT(std::string(over.Take("").status().message()), HasSubstr("is named ''"));
  over.Say(std::to_string(::getpid()), "many", "grpc");
  EXPECT_THAT(std::string(TakeHandedSockets(kFirst).status().message()), HasSubstr("LISTEN_FDS is 'many'"));
}

TEST(ListenSocketsTest, APortInUseIsSaid) {
  const absl::StatusOr<ListenSockets> first = ListenSockets::Open("127.0.0.1:0", "--listen");
  ASSERT_TRUE(first.ok()) << first.status();
  const absl::Status second = ListenSockets::Open(first->address(), "--listen").status();
  EXPECT_TRUE(absl::IsAlreadyExists(second)) << second;
  EXPECT_THAT(std::string(second.message()), HasSubstr(first->address()));
  EXPECT_TRUE(absl::IsInvalidArgument(ListenSockets::Open("nonsense", "--listen").status()));
}

}  // namespace
}  // namespace loupe::coordinator::access
