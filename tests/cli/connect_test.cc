#include "cli/connect.h"

#include <map>

#include "clients/rpc/message_text.h"
#include "clients/rpc/proxy.h"
#include "common/atomic_file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "loupe/v1/sweep.pb.h"
#include "tests/testing/temp_folder.h"

namespace loupe::cli {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(ConnectOptionsTest, TheyMayStandBeforeTheCommand) {
  EXPECT_THAT(WithConnectOptionsBehind({"--address", "h:1", "--data=d", "sweeps", "--format", "json"}),
              ElementsAre("sweeps", "--address", "h:1", "--data=d", "--format", "json"));
  EXPECT_THAT(WithConnectOptionsBehind({"sweeps", "--address", "h:1"}), ElementsAre("sweeps", "--address", "h:1"));
  EXPECT_THAT(WithConnectOptionsBehind({"--data=d", "fleet", "slurm", "status", "--fleet", "f"}),
              ElementsAre("fleet", "slurm", "status", "--data=d", "--fleet", "f"));
  EXPECT_THAT(WithConnectOptionsBehind({"--help"}), ElementsAre("--help"));
  EXPECT_THAT(WithConnectOptionsBehind({"--adress", "h:1", "sweeps"}), ElementsAre("--adress", "h:1", "sweeps"));
  EXPECT_THAT(WithConnectOptionsBehind({"--address", "h:1"}), ElementsAre("--address", "h:1"));
  EXPECT_THAT(WithConnectOptionsBehind({"--data"}), ElementsAre("--data"));
}

// What ProxyFor says with these variables; "" for a direct connection.
std::string ProxyOf(const std::string& address, std::map<std::string, std::string> variables) {
  const auto proxy = clients::rpc::ProxyFor(address, [&](const char* name) { return variables[name]; });
  if (!proxy.ok()) return std::string(proxy.status().message());
  return *proxy ? (*proxy)->shown + " " + (*proxy)->variable : "";
}

TEST(ProxyTest, LoopbackIsNeverProxied) {
  for (const char* host : {"localhost", "LOCALHOST", "a.localhost", "127.0.0.1", "127.9.9.9", "[::1]",
                           "[::ffff:127.0.0.1]", "0.0.0.0", "[::]"}) {
    EXPECT_EQ(ProxyOf(std::string(host) + ":7117", {{"http_proxy", "http://p:3128"}}), "") << host;
  }
}

TEST(ProxyTest, OthersGoThroughTheFirstVariable) {
  EXPECT_EQ(ProxyOf("203.0.113.5:7117", {{"http_proxy", "http://u:secret@p:3128/"}}), "http://p:3128 http_proxy");
  EXPECT_EQ(ProxyOf("203.0.113.5:7117", {{"http_proxy", "http://p:1"}, {"grpc_proxy", "q:2"}}),
            "http://q:2 grpc_proxy");
  EXPECT_EQ(ProxyOf("203.0.113.5:7117", {{"https_proxy", "http://p"}}), "http://p:80 https_proxy");
  EXPECT_EQ(ProxyOf("203.0.113.5:7117", {}), "");
  EXPECT_THAT(ProxyOf("203.0.113.5:7117", {{"http_proxy", "socks5://p:1"}}), HasSubstr("expected http://host:port"));
}

TEST(ProxyTest, ExceptionsAreNamesAddressesAndNetworks) {
  const auto is_direct = [](const std::string& address, const std::string& no_proxy) {
    return ProxyOf(address, {{"http_proxy", "http://p:1"}, {"no_proxy", no_proxy}}).empty();
  };
  EXPECT_TRUE(is_direct("203.0.113.5:7117", "10.0.0.0/8, 203.0.113.0/24"));
  EXPECT_TRUE(is_direct("203.0.113.5:7117", "203.0.113.5"));
  EXPECT_TRUE(is_direct("203.0.113.5:7117", "*"));
  EXPECT_TRUE(is_direct("203.0.113.5:7117", "203.0.113.5:7117"));
  EXPECT_TRUE(is_direct("[2001:db8::5]:7117", "2001:db8::/32"));
  EXPECT_TRUE(is_direct("node.cluster.example:7117", ".cluster.example"));
  EXPECT_TRUE(is_direct("Node.Cluster.example:7117", "cluster.Example"));
  EXPECT_FALSE(is_direct("203.0.113.5:7117", "203.0.112.0/24"));
  EXPECT_FALSE(is_direct("203.0.113.5:7117", "203.0.113.5:80"));
  EXPECT_FALSE(is_direct("203.0.113.128:7117", "203.0.113.0/25"));
  EXPECT_FALSE(is_direct("[2001:db9::5]:7117", "2001:db8::/32"));
  EXPECT_FALSE(is_direct("203.0.113.5:7117", "nonsense/8, 203.0.113.0/99, /, ,"));
  EXPECT_FALSE(is_direct("mycluster.example:7117", "cluster.example"));
}

TEST(ConnectionTest, TokenIsCleanedOrRefusedUnseen) {
  clients::rpc::ConnectOptions options;
  options.address = "127.0.0.1:9";
  for (const std::string token : {"sec\tret", "“secret”", "sec\nret\x01", "secr\xe9t"}) {
    options.token = token;
    const auto connection = clients::rpc::Connection::Open(options);
    if (connection.ok()) {
      grpc::ClientContext context;  // gRPC would abort here
      (*connection)->Prepare(context);
      continue;
    }
    EXPECT_EQ(connection.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(connection.status().message(), AllOf(Not(HasSubstr("sec")), Not(HasSubstr("ret"))));
  }
  const testing::TempFolder folder;
  ASSERT_TRUE(WriteFileAtomically(folder.path() + "/t", "\xef\xbb\xbfsecret\r\n").ok());
  options.token.clear();
  options.token_file = folder.path() + "/t";
  const auto resolved = clients::rpc::ResolveConnectOptions(options);
  ASSERT_TRUE(resolved.ok()) << resolved.status();
  EXPECT_EQ(resolved->token, "secret");
}

TEST(ConnectionTest, FailureSaysWhatWasTried) {
  clients::rpc::ConnectOptions options;
  options.address = "127.0.0.1:9";
  const auto connection = clients::rpc::Connection::Open(options);
  ASSERT_TRUE(connection.ok());
  const absl::Status status = (*connection)->Check(grpc::Status(grpc::StatusCode::UNAVAILABLE, "refused"));
  EXPECT_THAT(status.message(), AllOf(HasSubstr("no coordinator answers at 127.0.0.1:9"),
                                      HasSubstr("127.0.0.1 (IPv4) without TLS"), HasSubstr("refused")));
}

TEST(MessageTextTest, EveryStringFieldIsLookedAt) {
  v1::Sweep sweep;
  sweep.set_name("sweeps/x");
  EXPECT_EQ(clients::rpc::FieldNotUtf8(sweep), "");
  sweep.mutable_spec()->add_factors()->add_levels("caf\xe9");
  EXPECT_EQ(clients::rpc::FieldNotUtf8(sweep), "spec.factors.levels");
  clients::rpc::EscapeFieldsNotUtf8(sweep);
  EXPECT_EQ(sweep.spec().factors(0).levels(0), "caf\\xe9");
  EXPECT_EQ(clients::rpc::FieldNotUtf8(sweep), "");
}

}  // namespace
}  // namespace loupe::cli
