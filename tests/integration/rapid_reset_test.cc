// HTTP/2 rapid reset against a coordinator that other machines can reach, and against the front of deploy/haproxy.cfg:
// nobody else waits, and memory stays bounded.
#include "tests/testing/rapid_reset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <thread>

#include "common/atomic_file.h"
#include "common/private_file.h"
#include "fmt/format.h"
#include "loupe/v1/sweep.grpc.pb.h"
#include "tests/testing/certificates.h"
#include "tests/testing/coordinator_process.h"
#include "tests/testing/temp_folder.h"

namespace loupe {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr double kAttackSeconds = 2;
constexpr char kHaproxy[] = "/usr/sbin/haproxy";

int PortOf(const std::string& address) { return std::atoi(address.c_str() + address.rfind(':') + 1); }

class RapidResetTest : public ::testing::Test {
 protected:
  void StartCoordinator(const std::string& listen) {
    coordinator_ = std::make_unique<testing::CoordinatorProcess>(
        std::vector<std::string>{LOUPE_COORDINATOR}, data_, std::vector<std::string>{"--log-level", "off"}, listen);
  }

  static absl::Status List(const clients::rpc::Connection& connection) {
    v1::ListSweepsResponse response;
    grpc::ClientContext context;
    connection.Prepare(context);
    return connection.Check(v1::SweepService::NewStub(connection.channel())->ListSweeps(&context, {}, &response));
  }

  // While three attackers are at `port`, each call of `other` is answered within a second.
  testing::RapidResetResult AttackBeside(int port, bool tls, const clients::rpc::Connection& other) {
    EXPECT_TRUE(List(other).ok()) << List(other);
    std::vector<testing::RapidResetResult> results(3);
    std::vector<std::thread> attackers;
    for (auto& result : results)
      attackers.emplace_back([&result, port, tls] { result = testing::RapidReset(port, tls, kAttackSeconds); });
    const auto end = SteadyClock::now() + std::chrono::duration<double>(kAttackSeconds);
    while (SteadyClock::now() < end) {
      const auto began = SteadyClock::now();
      const absl::Status status = List(other);
      EXPECT_TRUE(status.ok()) << status;
      EXPECT_LT(std::chrono::duration<double>(SteadyClock::now() - began).count(), 1.0);
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    for (std::thread& attacker : attackers) attacker.join();
    testing::RapidResetResult sum;
    for (const auto& result : results) {
      sum.streams += result.streams;
      sum.connections += result.connections;
      sum.reached_http2 = sum.reached_http2 || result.reached_http2;
    }
    EXPECT_GT(sum.connections, 0);
    EXPECT_LE(coordinator_->process().PeakMegabytes(), 512);
    return sum;
  }

  testing::TempFolder folder_;
  const std::string data_ = folder_ / "data";
  std::unique_ptr<testing::CoordinatorProcess> coordinator_;
};

TEST_F(RapidResetTest, WithoutACertificateNobodyReachesHttp2) {
  StartCoordinator("0.0.0.0:0");
  const auto other = *clients::rpc::Connection::Open(
      *clients::rpc::ResolveConnectOptions({.credentials_file = data_ + "/credentials"}));
  const int port = PortOf(coordinator_->address());
  EXPECT_FALSE(AttackBeside(port, /*tls=*/false, *other).reached_http2);
  EXPECT_FALSE(AttackBeside(port, /*tls=*/true, *other).reached_http2);
}

TEST_F(RapidResetTest, TheFrontShedsIt) {
  ASSERT_EQ(::access(kHaproxy, X_OK), 0) << "this test needs Debian's haproxy: deploy/debian-packages.txt names it";
  StartCoordinator("127.0.0.1:0");
  const auto authority = testing::MakeAuthority("authority of the front");
  const auto certificate = testing::MakeCertificate(authority, "front");
  ASSERT_TRUE(WritePrivateFile(folder_ / "front.pem", certificate.certificate + certificate.key).ok());
  ASSERT_TRUE(WriteFileAtomically(folder_ / "ca.pem", authority.certificate).ok());
  // A port that was free a moment ago.
  const int port = 20000 + ::getpid() % 20000;
  ::setenv("LOUPE_FRONT_LISTEN", fmt::format("127.0.0.1:{}", port).c_str(), 1);
  ::setenv("LOUPE_FRONT_CERTIFICATE", (folder_ / "front.pem").c_str(), 1);
  ::setenv("LOUPE_COORDINATOR", coordinator_->address().c_str(), 1);
  testing::ChildProcess front({kHaproxy, "-db", "-q", "-f", "deploy/haproxy.cfg"});
  clients::rpc::ConnectOptions options{.address = fmt::format("localhost:{}", port), .ca_file = folder_ / "ca.pem"};
  options.token_file = coordinator_->token_file();
  const auto other = *clients::rpc::Connection::Open(*clients::rpc::ResolveConnectOptions(options));
  ASSERT_TRUE(other->WaitUntilConnected(absl::Seconds(10)).ok());
  EXPECT_TRUE(AttackBeside(port, /*tls=*/true, *other).reached_http2);
  // No stream without a token reaches the coordinator.
  options.token_file.clear();
  options.token = "";
  const auto stranger = *clients::rpc::Connection::Open(options);
  EXPECT_TRUE(absl::IsUnauthenticated(List(*stranger))) << List(*stranger);
}

}  // namespace
}  // namespace loupe
