// Who gets in and who does not, over real sockets: tokens, roles, TLS, limits, and what never reaches a log.
#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>
#include <thread>

#include "clients/rpc/connection.h"
#include "clients/rpc/rpc_status.h"
#include "common/atomic_file.h"
#include "common/credentials.h"
#include "common/error_details.h"
#include "common/sha256.h"
#include "coordinator/server/server.h"
#include "fmt/format.h"
#include "loupe/v1/access.grpc.pb.h"
#include "loupe/v1/analysis.grpc.pb.h"
#include "loupe/v1/sweep.grpc.pb.h"
#include "loupe/v1/trial.grpc.pb.h"
#include "loupe/v1/worker.grpc.pb.h"
#include "spdlog/sinks/ostream_sink.h"
#include "spdlog/spdlog.h"
#include "tests/testing/certificates.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/raw_call.h"
#include "tests/testing/small_spec.h"
#include "tests/testing/temp_folder.h"

namespace loupe {
namespace {

using coordinator::access::AccessControl;
using coordinator::access::Role;
using coordinator::server::Server;
using coordinator::server::ServerOptions;
using ::testing::HasSubstr;
using ::testing::Not;

// Every method of the contract and the roles that may call it; an administrator may call all. A method that is missing
// here fails EveryMethodIsOpenToItsRolesOnly: whoever adds one decides who may call it.
const std::map<std::string, std::set<Role>>& AllowedRoles() {
  static const std::set<Role> kEverybody = {Role::kViewer, Role::kSubmitter, Role::kWorker};
  static const std::map<std::string, std::set<Role>> kAllowed = {
      {"loupe.v1.AccessService/Enrol", {Role::kEnrol}},
      {"loupe.v1.AccessService/RenewCredentials", {Role::kWorker}},
      {"loupe.v1.SweepService/CreateSweep", {Role::kSubmitter}},
      {"loupe.v1.SweepService/GetSweep", kEverybody},
      {"loupe.v1.SweepService/ListSweeps", kEverybody},
      {"loupe.v1.SweepService/DeleteSweep", {Role::kSubmitter}},
      {"loupe.v1.SweepService/PauseSweep", {Role::kSubmitter}},
      {"loupe.v1.SweepService/ResumeSweep", {Role::kSubmitter}},
      {"loupe.v1.SweepService/StopSweep", {Role::kSubmitter}},
      {"loupe.v1.SweepService/CancelSweep", {Role::kSubmitter}},
      {"loupe.v1.SweepService/RetryTrials", {Role::kSubmitter}},
      {"loupe.v1.SweepService/WatchSweep", kEverybody},
      {"loupe.v1.TrialService/GetTrial", kEverybody},
      {"loupe.v1.TrialService/ListTrials", kEverybody},
      {"loupe.v1.TrialService/ListMetricPoints", kEverybody},
      {"loupe.v1.TrialService/ListArtifacts", kEverybody},
      {"loupe.v1.TrialService/ListTrialLogs", kEverybody},
      {"loupe.v1.TrialService/DownloadArtifact", kEverybody},
      {"loupe.v1.WorkerService/Synchronize", {Role::kWorker}},
      {"loupe.v1.WorkerService/UploadArtifact", {Role::kWorker}},
      {"loupe.v1.WorkerService/ListWorkers", kEverybody},
      {"loupe.v1.WorkerService/DrainWorker", {}},
      {"loupe.v1.WorkerService/UndrainWorker", {}},
      {"loupe.v1.AnalysisService/GetAnova", kEverybody},
      {"loupe.v1.AnalysisService/RenderReport", kEverybody},
      {"loupe.v1.ViewService/GetSweepDigest", kEverybody},
      {"loupe.v1.ViewService/GetTrialTable", kEverybody},
      {"loupe.v1.ViewService/GetCurves", kEverybody},
      {"loupe.v1.ViewService/ListAttempts", kEverybody},
      {"loupe.v1.ViewService/GetTrialDetails", kEverybody},
      {"loupe.v1.ViewService/GetReport", kEverybody},
  };
  return kAllowed;
}

// "package.Service/Method" of every method that proto/loupe/v1 declares.
std::set<std::string> AllMethods() {
  std::set<std::string> methods;
  for (const auto& file : std::filesystem::directory_iterator("proto/loupe/v1")) {
    const std::string path = "loupe/v1/" + file.path().filename().string();
    const auto* proto = google::protobuf::DescriptorPool::generated_pool()->FindFileByName(path);
    EXPECT_NE(proto, nullptr) << path << " is not linked into this test";
    for (int i = 0; proto != nullptr && i < proto->service_count(); ++i) {
      for (int j = 0; j < proto->service(i)->method_count(); ++j) {
        methods.insert(proto->service(i)->full_name() + "/" + proto->service(i)->method(j)->name());
      }
    }
  }
  return methods;
}

// Calls any method with an empty request. An empty token sends none.
grpc::Status CallEmpty(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                       const std::string& token) {
  return testing::RawCall(channel, method, token, {""});
}

class SecurityTest : public ::testing::Test {
 protected:
  SecurityTest() {
    options_.data_folder = folder_ / "data";
    options_.listen = "127.0.0.1:0";
  }

  void Start() {
    absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(options_, clock_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  std::string AdminToken() const {
    std::string token = *ReadFile(options_.data_folder + "/token");
    token.pop_back();
    return token;
  }
  std::string AddToken(const std::string& name, Role role, absl::Duration lifetime = absl::InfiniteDuration()) {
    absl::StatusOr<std::string> token = AccessControl::AddToken(options_.data_folder, name, role, lifetime, clock_);
    EXPECT_TRUE(token.ok()) << token.status();
    return *token;
  }
  std::shared_ptr<clients::rpc::Connection> Connect(clients::rpc::ConnectOptions options) {
    if (options.address.empty()) options.address = server_->address();
    return *clients::rpc::Connection::Open(options);
  }

  static absl::Status Get(const clients::rpc::Connection& connection) {
    v1::ListSweepsResponse response;
    grpc::ClientContext context;
    connection.Prepare(context, absl::Seconds(20));
    return connection.Check(v1::SweepService::NewStub(connection.channel())->ListSweeps(&context, {}, &response));
  }
  static absl::Status Create(const clients::rpc::Connection& connection, const std::string& id,
                             bool validate_only = false) {
    v1::CreateSweepRequest request;
    request.set_sweep_id(id);
    request.set_validate_only(validate_only);
    *request.mutable_spec() = testing::SmallSpec(1, 1);
    v1::CreateSweepResponse response;
    grpc::ClientContext context;
    connection.Prepare(context);
    return connection.Check(v1::SweepService::NewStub(connection.channel())->CreateSweep(&context, request, &response));
  }
  // The lease of the first trial of a sweep that is created for it.
  static v1::LeaseKey Lease(const clients::rpc::Connection& connection, const std::string& sweep) {
    EXPECT_TRUE(Create(connection, sweep).ok());
    v1::SynchronizeRequest request;
    request.set_worker("workers/w-" + sweep);
    request.set_session_id("s");
    request.set_slots(1);
    v1::SynchronizeResponse response;
    grpc::ClientContext context;
    connection.Prepare(context);
    EXPECT_TRUE(v1::WorkerService::NewStub(connection.channel())->Synchronize(&context, request, &response).ok());
    EXPECT_EQ(response.attempts_size(), 1);
    return response.attempts(0).lease();
  }
  static grpc::Status Upload(const clients::rpc::Connection& connection, const v1::LeaseKey& lease,
                             const std::string& name, const std::string& content) {
    v1::UploadArtifactRequest message;
    *message.mutable_header()->mutable_lease() = lease;
    message.mutable_header()->mutable_artifact()->set_name(name);
    message.mutable_header()->mutable_artifact()->set_size_bytes(static_cast<int64_t>(content.size()));
    message.mutable_header()->mutable_artifact()->set_sha256(Sha256Hex(content));
    grpc::ClientContext context;
    connection.Prepare(context);
    v1::UploadArtifactResponse response;
    const auto writer = v1::WorkerService::NewStub(connection.channel())->UploadArtifact(&context, &response);
    writer->Write(message);
    message.set_chunk(content);
    writer->Write(message);
    writer->WritesDone();
    return writer->Finish();
  }
  static grpc::Status Download(const clients::rpc::Connection& connection, const std::string& trial,
                               const std::string& name, std::string* content) {
    v1::DownloadArtifactRequest request;
    request.set_trial(trial);
    request.set_artifact_name(name);
    grpc::ClientContext context;
    connection.Prepare(context);
    const auto reader = v1::TrialService::NewStub(connection.channel())->DownloadArtifact(&context, request);
    v1::DownloadArtifactResponse response;
    while (reader->Read(&response)) *content += response.chunk();
    return reader->Finish();
  }

  testing::TempFolder folder_;
  testing::FakeClock clock_;
  ServerOptions options_;
  std::unique_ptr<Server> server_;
};

TEST_F(SecurityTest, EveryMethodIsOpenToItsRolesOnly) {
  // Two strangers' calls for each method.
  options_.limits.strangers = {};
  Start();
  const auto channel = Connect({})->channel();
  const std::map<Role, std::string> tokens = {{Role::kViewer, AddToken("v", Role::kViewer)},
                                              {Role::kSubmitter, AddToken("s", Role::kSubmitter)},
                                              {Role::kWorker, AddToken("w", Role::kWorker)},
                                              {Role::kEnrol, AddToken("e", Role::kEnrol)},
                                              {Role::kAdmin, AdminToken()}};
  const std::set<std::string> methods = AllMethods();
  EXPECT_GE(methods.size(), 22u);
  for (const std::string& method : methods) {
    const auto allowed = AllowedRoles().find(method);
    ASSERT_NE(allowed, AllowedRoles().end()) << method << " has no rule: say in AllowedRoles() who may call it";
    EXPECT_EQ(CallEmpty(channel, method, "").error_code(), grpc::StatusCode::UNAUTHENTICATED)
        << method << " without a token";
    EXPECT_EQ(CallEmpty(channel, method, "wrong").error_code(), grpc::StatusCode::UNAUTHENTICATED) << method;
    for (const auto& [role, token] : tokens) {
      const grpc::Status status = CallEmpty(channel, method, token);
      if (role == Role::kAdmin || allowed->second.contains(role)) {
        EXPECT_THAT(status.error_code(), ::testing::AnyOf(grpc::StatusCode::OK, grpc::StatusCode::INVALID_ARGUMENT))
            << method << " as " << coordinator::access::NameOf(role) << ": " << status.error_message();
      } else {
        EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED)
            << method << " as " << coordinator::access::NameOf(role);
      }
    }
  }
  for (const auto& [method, roles] : AllowedRoles()) EXPECT_TRUE(methods.contains(method)) << method << " is gone";
}

TEST_F(SecurityTest, AViewerMayTryOutASweepButNotCreateIt) {
  Start();
  const auto viewer = Connect({.token = AddToken("v", Role::kViewer)});
  EXPECT_TRUE(Create(*viewer, "trial-run", /*validate_only=*/true).ok());
  EXPECT_TRUE(absl::IsPermissionDenied(Create(*viewer, "real")));
}

TEST_F(SecurityTest, ATokenEndsWithItsLastSecond) {
  Start();
  const auto guest = Connect({.token = AddToken("guest", Role::kViewer, absl::Hours(1))});
  clock_.Advance(absl::Hours(1) - absl::Nanoseconds(1));
  EXPECT_TRUE(Get(*guest).ok());
  clock_.Advance(absl::Nanoseconds(1));
  const absl::Status late = Get(*guest);
  EXPECT_TRUE(absl::IsUnauthenticated(late));
  EXPECT_THAT(std::string(late.message()), HasSubstr("'guest' has expired"));
}

TEST_F(SecurityTest, ARevokedTokenIsRefusedByTheVeryNextCall) {
  Start();
  for (int i = 0; i < 20; ++i) {
    const std::string name = fmt::format("t{}", i);
    const auto connection = Connect({.token = AddToken(name, Role::kSubmitter)});
    ASSERT_TRUE(Get(*connection).ok());
    ASSERT_TRUE(AccessControl::RemoveToken(options_.data_folder, name).ok());
    ASSERT_TRUE(absl::IsUnauthenticated(Get(*connection))) << i;
  }
}

TEST_F(SecurityTest, ANewTokenInTheTokenFileIsTakenUpAfterTheOldOneEnds) {
  Start();
  const std::string file = folder_ / "worker-token";
  ASSERT_TRUE(WriteFileAtomically(file, AddToken("old", Role::kViewer) + "\n").ok());
  const auto connection =
      Connect(*clients::rpc::ResolveConnectOptions({.address = server_->address(), .token_file = file}));
  ASSERT_TRUE(Get(*connection).ok());
  ASSERT_TRUE(AccessControl::RemoveToken(options_.data_folder, "old").ok());
  ASSERT_TRUE(WriteFileAtomically(file, AddToken("new", Role::kViewer) + "\n").ok());
  EXPECT_TRUE(absl::IsUnauthenticated(Get(*connection))) << "the call that meets the end is lost";
  EXPECT_TRUE(Get(*connection).ok());
}

TEST_F(SecurityTest, OffLoopbackACertificateIsDemanded) {
  options_.listen = "0.0.0.0:0";
  Start();
  const std::string port = server_->address().substr(server_->address().rfind(':'));
  const auto with =
      Connect(*clients::rpc::ResolveConnectOptions({.credentials_file = options_.data_folder + "/credentials"}));
  EXPECT_TRUE(Get(*with).ok()) << Get(*with);
  const std::string ca = options_.data_folder + "/tls/ca.pem";
  EXPECT_TRUE(
      absl::IsUnavailable(Get(*Connect({.address = "localhost" + port, .token = AdminToken(), .ca_file = ca}))));
  EXPECT_TRUE(absl::IsUnavailable(Get(*Connect({.address = "localhost" + port, .token = AdminToken()}))))
      << "without TLS";
  for (const char* file : {"tls/authority.pem", "tls/live.pem", "credentials"}) {
    struct stat info {};
    ASSERT_EQ(::stat((options_.data_folder + "/" + file).c_str(), &info), 0) << file;
    EXPECT_EQ(info.st_mode & 0777, 0600u) << file;
  }
  // The authority stays, and with it everybody's credentials.
  server_.reset();
  options_.listen = "0.0.0.0" + port;
  Start();
  EXPECT_TRUE(Get(*with).ok()) << Get(*with);
  // Unless the operator says so.
  server_.reset();
  options_.tls.clients_without_certificate = true;
  Start();
  EXPECT_TRUE(Get(*Connect({.address = "localhost" + port, .token = AdminToken(), .ca_file = ca})).ok());
}

// A call that the coordinator holds: ends within a second of `end`.
template <typename End>
void ExpectHeldCallEnds(const std::shared_ptr<clients::rpc::Connection>& worker, const std::string& name, End end) {
  const auto start = std::chrono::steady_clock::now() + std::chrono::milliseconds(200);
  std::thread ending([&] {
    std::this_thread::sleep_until(start);
    end();
  });
  v1::SynchronizeRequest request;
  request.set_worker(name);
  request.set_session_id("s");
  request.set_slots(1);
  request.mutable_max_wait()->set_seconds(30);
  v1::SynchronizeResponse response;
  grpc::ClientContext context;
  worker->Prepare(context, absl::Seconds(30));
  EXPECT_FALSE(v1::WorkerService::NewStub(worker->channel())->Synchronize(&context, request, &response).ok());
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
  ending.join();
}

TEST_F(SecurityTest, RevocationAndExpiryEndOpenCalls) {
  Start();
  const auto revoked = Connect({.token = AddToken("revoked", Role::kWorker)});
  ExpectHeldCallEnds(revoked, "workers/a",
                     [&] { ASSERT_TRUE(AccessControl::RemoveToken(options_.data_folder, "revoked").ok()); });
  const auto expiring = Connect({.token = AddToken("expiring", Role::kWorker, absl::Hours(1))});
  ExpectHeldCallEnds(expiring, "workers/b", [&] { clock_.JumpWall(absl::Hours(2)); });
}

TEST_F(SecurityTest, AnEnrolledWorkerHasItsNameAlone) {
  Start();
  const auto enrolment = Connect({.token = AddToken("farm", Role::kEnrol)});
  v1::EnrolRequest request;
  request.set_worker_id("gpu-1");
  request.set_token_sha256(Sha256Hex("a-token-of-the-worker-alone"));
  v1::WorkerCredentials given;
  grpc::ClientContext context;
  enrolment->Prepare(context);
  ASSERT_TRUE(v1::AccessService::NewStub(enrolment->channel())->Enrol(&context, request, &given).ok());
  const auto synchronize = [](const std::shared_ptr<clients::rpc::Connection>& connection, const std::string& worker) {
    v1::SynchronizeRequest sync;
    sync.set_worker(worker);
    sync.set_session_id("s");
    sync.set_slots(1);
    v1::SynchronizeResponse response;
    grpc::ClientContext sync_context;
    connection->Prepare(sync_context);
    return v1::WorkerService::NewStub(connection->channel())->Synchronize(&sync_context, sync, &response).error_code();
  };
  EXPECT_EQ(synchronize(Connect({.token = "a-token-of-the-worker-alone"}), "workers/gpu-1"), grpc::StatusCode::OK);
  EXPECT_EQ(synchronize(Connect({.token = "a-token-of-the-worker-alone"}), "workers/gpu-2"),
            grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(synchronize(Connect({.token = AdminToken()}), "workers/gpu-1"), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(synchronize(enrolment, "workers/gpu-3"), grpc::StatusCode::PERMISSION_DENIED);
}

class TlsTest : public SecurityTest {
 protected:
  TlsTest() {
    const auto server = testing::MakeCertificate(authority_, "coordinator");
    const auto client = testing::MakeCertificate(authority_, "client");
    const auto stranger = testing::MakeCertificate(testing::MakeAuthority("somebody"), "client");
    const auto expired = testing::MakeCertificate(authority_, "client", -1);
    const auto write = [&](const std::string& name, const std::string& text) {
      ASSERT_TRUE(WriteFileAtomically(folder_ / name, text).ok());
    };
    write("ca.pem", authority_.certificate);
    write("other-ca.pem", testing::MakeAuthority("other").certificate);
    const std::map<std::string, testing::Certificate> certificates = {
        {"server", server}, {"client", client}, {"stranger", stranger}, {"expired", expired}};
    for (const auto& [name, pem] : certificates) {
      write(fmt::format("{}.pem", name), pem.certificate);
      EXPECT_TRUE(WriteFileAtomically(folder_ / (name + ".key"), pem.key, 0600).ok());
    }
    options_.tls.certificate_file = folder_ / "server.pem";
    options_.tls.key_file = folder_ / "server.key";
    // TLS lifts the limit to loopback.
    options_.listen = "0.0.0.0:0";
  }

  absl::Status GetWith(const std::string& ca, const std::string& client, bool with_token = true) {
    const std::string address = "localhost" + server_->address().substr(server_->address().rfind(':'));
    clients::rpc::ConnectOptions options{.address = address};
    if (with_token) options.token = AdminToken();
    if (!ca.empty()) options.ca_file = folder_ / ca;
    if (!client.empty()) {
      options.certificate_file = folder_ / (client + ".pem");
      options.key_file = folder_ / (client + ".key");
    }
    return Get(*Connect(options));
  }

  const testing::Certificate authority_ = testing::MakeAuthority("Loupe test authority");
};

TEST_F(TlsTest, TheRightAuthorityIsAcceptedAndNoOther) {
  options_.tls.clients_without_certificate = true;
  Start();
  EXPECT_TRUE(GetWith("ca.pem", "").ok());
  EXPECT_TRUE(absl::IsUnavailable(GetWith("other-ca.pem", ""))) << "the client does not know who signed the server";
  EXPECT_TRUE(absl::IsUnavailable(GetWith("", ""))) << "a client without TLS";
  EXPECT_TRUE(absl::IsUnauthenticated(GetWith("ca.pem", "", /*with_token=*/false))) << "TLS does not replace the token";
}

TEST_F(TlsTest, MutualTlsDemandsACertificateOfTheClientsAuthority) {
  options_.tls.client_ca_file = folder_ / "ca.pem";
  Start();
  EXPECT_TRUE(GetWith("ca.pem", "client").ok());
  EXPECT_TRUE(absl::IsUnavailable(GetWith("ca.pem", ""))) << "no certificate";
  EXPECT_TRUE(absl::IsUnavailable(GetWith("ca.pem", "stranger"))) << "signed by another authority";
  EXPECT_TRUE(absl::IsUnavailable(GetWith("ca.pem", "expired"))) << "expired";
  EXPECT_TRUE(absl::IsUnauthenticated(GetWith("ca.pem", "client", /*with_token=*/false)));
}

// Each failed handshake says that TLS was the trouble, over what, where it was tried, and what to do.
TEST_F(TlsTest, AFailedHandshakeSaysWhy) {
  options_.tls.client_ca_file = folder_ / "ca.pem";
  Start();
  const std::string port = server_->address().substr(server_->address().rfind(':'));
  const auto says = [](const std::string& cause, const std::string& what_to_do) {
    return ::testing::ResultOf([](const absl::Status& status) { return std::string(status.message()); },
                               ::testing::AllOf(HasSubstr("127.0.0."), HasSubstr("(IPv4) with"), HasSubstr("TLS"),
                                                HasSubstr(cause), HasSubstr(what_to_do)));
  };
  EXPECT_THAT(GetWith("other-ca.pem", "client"), says("over the coordinator's certificate", "token add -o FILE"));
  EXPECT_THAT(GetWith("ca.pem", ""), says("may want a client's certificate", "--credentials FILE"));
  EXPECT_THAT(GetWith("ca.pem", "expired"), says("may have expired", "--credentials FILE"));
  EXPECT_THAT(GetWith("", ""), says("may want TLS", "--credentials FILE"));
  const absl::Status other_name = Get(*Connect({.address = "127.0.0.2" + port,
                                                .token = AdminToken(),
                                                .ca_file = folder_ / "ca.pem",
                                                .certificate_file = folder_ / "client.pem",
                                                .key_file = folder_ / "client.key"}));
  EXPECT_THAT(other_name, says("certificate is not for '127.0.0.2'", "--tls-name 127.0.0.2"));
  // A credentials file takes another way through gRPC.
  const testing::Certificate client = testing::MakeCertificate(authority_, "client");
  const std::string credentials = folder_ / "client-credentials.pem";
  ASSERT_TRUE(WriteFileAtomically(credentials,
                                  ToText({.comment = "a client",
                                          .address = "127.0.0.2" + port,
                                          .token = AdminToken(),
                                          .certificate = client.certificate,
                                          .key = client.key,
                                          .authority = authority_.certificate}),
                                  0600)
                  .ok());
  const auto with = Connect(*clients::rpc::ResolveConnectOptions({.credentials_file = credentials}));
  EXPECT_THAT(Get(*with), says("certificate is not for '127.0.0.2'", "--tls-name 127.0.0.2"));
}

TEST_F(SecurityTest, TlsToACoordinatorWithoutSaysSo) {
  Start();
  const testing::Certificate authority = testing::MakeAuthority("somebody");
  ASSERT_TRUE(WriteFileAtomically(folder_ / "ca.pem", authority.certificate).ok());
  const absl::Status status = Get(*Connect({.token = AdminToken(), .ca_file = folder_ / "ca.pem"}));
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("does not speak TLS"));
}

TEST_F(TlsTest, ANewCertificateIsTakenOverWithoutARestart) {
  options_.tls.clients_without_certificate = true;
  Start();
  const auto old = GetWith("ca.pem", "");
  ASSERT_TRUE(old.ok()) << old;
  const auto other = testing::MakeAuthority("the next");
  const auto next = testing::MakeCertificate(other, "coordinator");
  ASSERT_TRUE(WriteFileAtomically(folder_ / "next-ca.pem", other.certificate).ok());
  // A certificate whose key has not come yet changes nothing.
  ASSERT_TRUE(WriteFileAtomically(folder_ / "server.pem", next.certificate).ok());
  std::this_thread::sleep_for(std::chrono::milliseconds(600));
  EXPECT_TRUE(GetWith("ca.pem", "").ok());
  ASSERT_TRUE(WriteFileAtomically(folder_ / "server.key", next.key, 0600).ok());
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!GetWith("next-ca.pem", "").ok() && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  EXPECT_TRUE(GetWith("next-ca.pem", "").ok());
}

TEST_F(TlsTest, HalfAConfigurationIsRefused) {
  options_.tls.key_file.clear();
  EXPECT_EQ(Server::Start(options_).status().code(), absl::StatusCode::kInvalidArgument);
  options_.tls.certificate_file.clear();
  options_.tls.client_ca_file = folder_ / "ca.pem";
  EXPECT_EQ(Server::Start(options_).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(SecurityTest, AClientThatCallsTooOftenIsHeldBackAndOthersAreNot) {
  options_.limits.people = {.per_second = 2, .burst = 5};
  Start();
  const auto greedy = Connect({.token = AddToken("greedy", Role::kViewer)});
  const auto modest = Connect({.token = AddToken("modest", Role::kViewer)});
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(Get(*greedy).ok()) << i;
  const absl::Status refused = Get(*greedy);
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_EQ(ReasonOf(refused), kReasonRateLimited);
  EXPECT_EQ(RetryAfterOf(refused), absl::Milliseconds(500));
  EXPECT_TRUE(Get(*modest).ok());
  clock_.Advance(absl::Milliseconds(501));
  EXPECT_TRUE(Get(*greedy).ok()) << "after the wait that the answer named";
}

TEST_F(SecurityTest, StrangersCannotFillTheAuditLog) {
  options_.limits.strangers = {.per_second = 1, .burst = 3};
  Start();
  const auto stranger = Connect({.token = "guess"});
  int refused = 0;
  for (int i = 0; i < 20; ++i) refused += absl::IsResourceExhausted(Create(*stranger, "x")) ? 1 : 0;
  EXPECT_EQ(refused, 17);
  const std::string audit = *ReadFile(options_.data_folder + "/audit.log");
  EXPECT_EQ(std::count(audit.begin(), audit.end(), '\n'), 3) << audit;
  // The right token still gets in from the same machine.
  EXPECT_TRUE(Get(*Connect({.token = AdminToken()})).ok());
}

TEST_F(SecurityTest, AMessageOfMoreThanFourMebibytesIsRefused) {
  Start();
  v1::CreateSweepRequest request;
  request.mutable_spec()->set_source_text(std::string(5 << 20, 'x'));
  const auto connection = Connect({.token = AdminToken()});
  grpc::ClientContext context;
  connection->Prepare(context);
  v1::CreateSweepResponse response;
  EXPECT_EQ(v1::SweepService::NewStub(connection->channel())->CreateSweep(&context, request, &response).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(SecurityTest, AnArtifactBeyondTheLimitIsRefusedBeforeItsBytesCome) {
  options_.limits.max_artifact_bytes = 10;
  Start();
  const auto admin = Connect({.token = AdminToken()});
  const v1::LeaseKey lease = Lease(*admin, "limits");
  EXPECT_TRUE(Upload(*admin, lease, "ten.txt", "0123456789").ok());
  EXPECT_EQ(Upload(*admin, lease, "eleven.txt", "0123456789a").error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(SecurityTest, ChangesAreAuditedWithWhoAndWhatAndOutcome) {
  Start();
  ASSERT_TRUE(Create(*Connect({.token = AddToken("anna", Role::kSubmitter)}), "mine").ok());
  EXPECT_FALSE(Create(*Connect({.token = AddToken("vera", Role::kViewer)}), "hers").ok());
  EXPECT_FALSE(Create(*Connect({.token = "guess"}), "his\nx created 'y' OK").ok());
  const std::string audit = *ReadFile(options_.data_folder + "/audit.log");
  EXPECT_THAT(audit, HasSubstr(" anna created 'mine' OK\n"));
  EXPECT_THAT(audit, HasSubstr(" vera created 'hers' PERMISSION_DENIED\n"));
  EXPECT_THAT(audit, HasSubstr(" - created 'his?x created 'y' OK' UNAUTHENTICATED\n"));
}

TEST_F(SecurityTest, NoSecretReachesALogTheAuditLogOrTheDatabase) {
  std::ostringstream text;
  const auto former = spdlog::default_logger();
  const auto logger = std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::ostream_sink_mt>(text));
  logger->set_level(spdlog::level::trace);
  spdlog::set_default_logger(logger);
  Start();
  std::vector<std::string> secrets = {AdminToken(), "a-token-that-nobody-knows"};
  for (const Role role : {Role::kViewer, Role::kSubmitter, Role::kWorker})
    secrets.push_back(AddToken(coordinator::access::NameOf(role), role));
  for (const std::string& token : secrets) {
    const auto connection = Connect({.token = token});
    Create(*connection, "s" + token.substr(0, 4)).IgnoreError();
    EXPECT_FALSE(Create(*connection, "///").ok());
    for (const std::string& method : AllMethods()) CallEmpty(connection->channel(), method, token);
  }
  const v1::LeaseKey lease = Lease(*Connect({.token = AdminToken()}), "leased");
  secrets.push_back(lease.lease_token());
  server_.reset();
  spdlog::set_default_logger(former);
  std::string everything = text.str();
  for (const char* file : {"audit.log", "tokens", "coordinator.db", "address"}) {
    if (const auto content = ReadFile(options_.data_folder + "/" + file); content.ok()) everything += *content;
  }
  EXPECT_THAT(everything, HasSubstr("created"));
  for (const std::string& secret : secrets)
    EXPECT_EQ(everything.find(secret), std::string::npos) << "of " << secret.substr(0, 4);
}

TEST_F(SecurityTest, ALinkInTheArtifactFolderIsNeitherFollowedForReadingNorForWriting) {
  Start();
  const auto admin = Connect({.token = AdminToken()});
  const v1::LeaseKey lease = Lease(*admin, "links");
  const std::string artifacts = options_.data_folder + "/artifacts/";
  ASSERT_TRUE(WriteFileAtomically(folder_ / "secret", "a secret").ok());
  // A file is replaced by a link to something else.
  const std::string content = "harmless";
  const std::string sha256 = Sha256Hex(content);
  ASSERT_TRUE(Upload(*admin, lease, "log.txt", content).ok());
  const std::string file = artifacts + sha256.substr(0, 2) + "/" + sha256;
  ASSERT_EQ(::unlink(file.c_str()), 0);
  ASSERT_EQ(::symlink((folder_ / "secret").c_str(), file.c_str()), 0);
  std::string downloaded;
  EXPECT_EQ(Download(*admin, lease.trial(), "log.txt", &downloaded).error_code(), grpc::StatusCode::DATA_LOSS);
  EXPECT_EQ(downloaded, "");
  // Sending it again puts a real file in the link's place.
  ASSERT_TRUE(Upload(*admin, lease, "log.txt", content).ok());
  EXPECT_TRUE(Download(*admin, lease.trial(), "log.txt", &downloaded).ok());
  EXPECT_EQ(downloaded, content);
  EXPECT_EQ(*ReadFile(folder_ / "secret"), "a secret");
  // A folder is replaced by a link to elsewhere.
  const std::string other = "other content";
  const std::string fan_out = artifacts + Sha256Hex(other).substr(0, 2);
  ASSERT_NE(fan_out, artifacts + sha256.substr(0, 2));
  std::filesystem::create_directory(folder_ / "elsewhere");
  ASSERT_EQ(::symlink((folder_ / "elsewhere").c_str(), fan_out.c_str()), 0);
  EXPECT_EQ(Upload(*admin, lease, "other.txt", other).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_TRUE(std::filesystem::is_empty(folder_ / "elsewhere"));
}

TEST_F(SecurityTest, FilesOfTheDataFolderArePrivate) {
  Start();
  AddToken("x", Role::kViewer);
  for (const char* name : {"token", "tokens", "audit.log"}) {
    struct stat info {};
    ASSERT_EQ(::stat((options_.data_folder + "/" + name).c_str(), &info), 0) << name;
    EXPECT_EQ(info.st_mode & 077, 0u) << name;
  }
  struct stat info {};
  ASSERT_EQ(::stat(options_.data_folder.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 077, 0u);
}

}  // namespace
}  // namespace loupe
