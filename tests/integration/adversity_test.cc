// A coordinator process on a machine that runs out of things: space, file descriptors, network.
//
// Where the machine does not let a test make a file system or a network of its own (it needs root), the test says so and is
// skipped.
#include <fcntl.h>
#include <signal.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "clients/rpc/rpc_status.h"
#include "common/atomic_file.h"
#include "common/sha256.h"
#include "coordinator/store/doctor.h"
#include "loupe/v1/worker.grpc.pb.h"
#include "tests/integration/process_fixture.h"
#include "tests/testing/small_spec.h"

namespace loupe {
namespace {

using ::testing::IsEmpty;

class AdversityTest : public ProcessTest {
 protected:
  absl::Status TryCreate(const std::string& id) {
    v1::CreateSweepRequest request;
    request.set_sweep_id(id);
    *request.mutable_spec() = testing::SmallSpec(2, 1);
    grpc::ClientContext context;
    connection_->Prepare(context);
    v1::CreateSweepResponse response;
    return connection_->Check(v1::SweepService::NewStub(connection_->channel())->CreateSweep(&context, request, &response));
  }
  v1::LeaseKey Lease() {
    v1::SynchronizeRequest request;
    request.set_worker("workers/w");
    request.set_session_id("s");
    request.set_slots(1);
    v1::SynchronizeResponse response;
    grpc::ClientContext context;
    connection_->Prepare(context);
    EXPECT_TRUE(v1::WorkerService::NewStub(connection_->channel())->Synchronize(&context, request, &response).ok());
    return response.attempts(0).lease();
  }
  absl::Status Upload(const v1::LeaseKey& lease, const std::string& content) {
    v1::UploadArtifactRequest message;
    *message.mutable_header()->mutable_lease() = lease;
    message.mutable_header()->mutable_artifact()->set_name("big.bin");
    message.mutable_header()->mutable_artifact()->set_size_bytes(static_cast<int64_t>(content.size()));
    message.mutable_header()->mutable_artifact()->set_sha256(Sha256Hex(content));
    grpc::ClientContext context;
    connection_->Prepare(context);
    v1::UploadArtifactResponse response;
    const auto writer = v1::WorkerService::NewStub(connection_->channel())->UploadArtifact(&context, &response);
    writer->Write(message);
    for (size_t at = 0; at < content.size(); at += 1 << 18) {
      message.set_chunk(content.substr(at, 1 << 18));
      if (!writer->Write(message)) break;
    }
    writer->WritesDone();
    return FromGrpcStatus(writer->Finish());
  }
};

// The whole data folder on a disk of eight megabytes: database, WAL, artifacts and audit log.
class FullDiskTest : public AdversityTest {
 protected:
  void SetUp() override {
    std::filesystem::create_directory(data_);
    mounted_ = ::mount("tmpfs", data_.c_str(), "tmpfs", 0, "size=8m,mode=0700") == 0;
    if (!mounted_) GTEST_SKIP() << "this user may not mount a small file system";
  }
  void TearDown() override {
    coordinator_.reset();
    if (mounted_) ::umount2(data_.c_str(), MNT_DETACH);
  }
  // Takes all space that is left.
  void Fill() {
    const int fd = ::open(ballast().c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    const std::string block(4096, 'x');
    while (::write(fd, block.data(), block.size()) > 0) {
    }
    ::close(fd);
  }
  std::string ballast() const { return data_ + "/ballast"; }
  bool mounted_ = false;
};

TEST_F(FullDiskTest, ChangesAreRefusedUploadsTooAndAllGoesOnWhenThereIsSpaceAgain) {
  StartCoordinator();
  ASSERT_TRUE(TryCreate("before").ok());
  const v1::LeaseKey lease = Lease();
  Fill();
  int refused = 0;
  // The WAL has some room left from earlier commits.
  for (int i = 0; i < 2000 && refused == 0; ++i) {
    const absl::Status status = TryCreate("during-" + std::to_string(i));
    if (status.ok()) continue;
    EXPECT_TRUE(absl::IsResourceExhausted(status) || absl::IsUnavailable(status)) << status;
    ++refused;
  }
  EXPECT_EQ(refused, 1) << "the disk never filled up";
  const absl::Status upload = Upload(lease, std::string(1 << 20, 'y'));
  EXPECT_TRUE(absl::IsResourceExhausted(upload)) << upload;
  EXPECT_TRUE(Get("before").ok()) << "reading goes on";
  EXPECT_TRUE(coordinator_->process().Runs());
  std::filesystem::remove(ballast());
  // What failed is tried again after a second.
  absl::Status after;
  for (int i = 0; i < 100 && !(after = TryCreate("after")).ok(); ++i) Pause(0.1);
  EXPECT_TRUE(after.ok()) << after;
  EXPECT_THAT(*ReadFile(data_ + "/audit.log"), ::testing::HasSubstr("created 'after' OK\n"));
  coordinator_->Kill(SIGTERM);
  const auto findings = coordinator::Examine(data_);
  ASSERT_TRUE(findings.ok()) << findings.status();
  EXPECT_THAT(*findings, IsEmpty());
}

// gRPC 1.51 never accepts again once an accept has found no file descriptor, so a coordinator must not get there.
TEST_F(AdversityTest, ASmallSoftLimitOfFileDescriptorsIsRaisedToTheHardOne) {
  StartCoordinator({"/usr/bin/prlimit", "--nofile=64:4096"});
  std::vector<std::shared_ptr<Connection>> crowd;
  for (int i = 0; i < 200; ++i) {
    crowd.push_back(coordinator_->Connect());
    ASSERT_TRUE(crowd.back()->WaitUntilConnected(absl::Seconds(30)).ok()) << i;
  }
  EXPECT_TRUE(TryCreate("after").ok());
}

TEST_F(AdversityTest, ThousandsOfIdleWatchersCostMemoryAndNoThreads) {
  StartCoordinator();
  ASSERT_TRUE(TryCreate("watched").ok());
  constexpr int kWatchers = 3000;
  const auto threads = [&] {
    const auto folder = std::filesystem::directory_iterator("/proc/" + std::to_string(coordinator_->process().pid()) + "/task");
    return std::distance(begin(folder), end(folder));
  };
  const auto before = threads();
  struct Watcher {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<v1::WatchSweepResponse>> reader;
  };
  const auto stub = v1::SweepService::NewStub(connection_->channel());
  std::vector<std::unique_ptr<Watcher>> watchers;
  v1::WatchSweepRequest request;
  request.set_name("sweeps/watched");
  v1::WatchSweepResponse response;
  for (int i = 0; i < kWatchers; ++i) {
    watchers.push_back(std::make_unique<Watcher>());
    connection_->Prepare(watchers.back()->context, absl::InfiniteDuration());
    watchers.back()->reader = stub->WatchSweep(&watchers.back()->context, request);
  }
  for (const auto& watcher : watchers) ASSERT_TRUE(watcher->reader->Read(&response));
  EXPECT_LT(threads() - before, 64) << "a watcher costs no thread";
  EXPECT_LT(coordinator_->process().PeakMegabytes(), 400);
  EXPECT_TRUE(TryCreate("meanwhile").ok());
  for (const auto& watcher : watchers) watcher->context.TryCancel();
  for (const auto& watcher : watchers) {
    while (watcher->reader->Read(&response)) {
    }
    const grpc::Status cancelled = watcher->reader->Finish();
    EXPECT_EQ(cancelled.error_code(), grpc::StatusCode::CANCELLED);
  }
}

// In a network of its own, packets to the coordinator's address vanish without a word: no reset, no error, as when a cable is cut.
class PartitionTest : public AdversityTest {
 protected:
  static void SetUpTestSuite() {
    // Before any thread is started: threads and processes made from here on live in the new network.
    own_network_ = ::unshare(CLONE_NEWNET) == 0 && std::system("ip link set lo up") == 0;
  }
  void SetUp() override {
    if (!own_network_) GTEST_SKIP() << "this user may not make a network of his own, or 'ip' is missing";
  }
  static void Cut(const std::string& address) {
    ASSERT_EQ(std::system(("ip route add blackhole " + address + "/32 table local").c_str()), 0);
  }
  static void Heal(const std::string& address) {
    ASSERT_EQ(std::system(("ip route del blackhole " + address + "/32 table local").c_str()), 0);
  }
  static bool own_network_;
};
bool PartitionTest::own_network_ = false;

TEST_F(PartitionTest, AfterItHealsEveryTrialIsDoneOnceAndRight) {
  StartCoordinator({}, "127.0.0.2:0");
  v1::SweepSpec spec = testing::SmallSpec(4, 3);
  spec.mutable_retry()->set_max_worker_losses(100);
  Create("cut-off", spec);
  std::vector<std::unique_ptr<ChildProcess>> workers;
  for (int i = 0; i < 2; ++i) workers.push_back(StartWorker(i, 0.2));
  while (Get("cut-off")->counts().succeeded() < 4) Pause(0.05);
  Cut("127.0.0.2");
  // Beyond the lease of two seconds: the coordinator gives the trials up, and their workers too.
  Pause(5);
  Heal("127.0.0.2");
  ASSERT_TRUE(WaitUntilCompleted("cut-off", 90));
  ExpectEveryScoreRight("cut-off", 36);
  EXPECT_EQ(Get("cut-off")->counts().succeeded(), 36);
}

}  // namespace
}  // namespace loupe
