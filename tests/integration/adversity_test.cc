// A coordinator process on a machine that runs out of things: space, file descriptors, memory.
//
// Where the machine does not let a test make a file system of its own (it needs root), the test says so and is skipped.
// LOUPE_WATCHERS=n has so many idle watchers in place of 3,000; each costs this process memory too.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "clients/rpc/rpc_status.h"
#include "common/atomic_file.h"
#include "common/sha256.h"
#include "coordinator/store/upkeep/doctor.h"
#include "loupe/v1/worker.grpc.pb.h"
#include "tests/integration/process_fixture.h"
#include "tests/testing/failing_disk.h"
#include "tests/testing/raw_call.h"
#include "tests/testing/small_spec.h"

namespace loupe {
namespace {

using ::testing::IsEmpty;

// A sanitizer needs memory of its own, several times the program's.
#ifdef LOUPE_SANITIZED
constexpr double kMemoryFactor = 4;
#else
constexpr double kMemoryFactor = 1;
#endif

class AdversityTest : public ProcessTest {
 protected:
  absl::Status TryCreate(const std::string& id) {
    v1::CreateSweepRequest request;
    request.set_sweep_id(id);
    *request.mutable_spec() = testing::SmallSpec(2, 1);
    grpc::ClientContext context;
    connection_->Prepare(context);
    v1::CreateSweepResponse response;
    return connection_->Check(
        v1::SweepService::NewStub(connection_->channel())->CreateSweep(&context, request, &response));
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
  const auto report = coordinator::store::upkeep::Examine(data_);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(report->findings, IsEmpty());
}

// Writes and syncs of the coordinator fail, as a broken disk's do, while trials land.
class BrokenDiskTest : public AdversityTest, public ::testing::WithParamInterface<int> {
 protected:
  BrokenDiskTest() {
    const std::string path = folder_ / "orders";
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT, 0600);
    EXPECT_EQ(::ftruncate(fd, sizeof(testing::DiskOrders)), 0);
    orders_ = static_cast<testing::DiskOrders*>(
        ::mmap(nullptr, sizeof(testing::DiskOrders), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    ::close(fd);
  }
  ~BrokenDiskTest() override { ::munmap(orders_, sizeof(testing::DiskOrders)); }
  void Fail(int64_t n, int64_t failures) {
    orders_->error = GetParam();
    orders_->failures = failures;
    orders_->fail_in = n;
  }
  void Heal() { orders_->fail_in = 0; }

  testing::DiskOrders* orders_ = nullptr;
};

TEST_P(BrokenDiskTest, TheNthWriteOrSyncFailsOnceOrForAWhileAndNothingIsLostOrDoubled) {
  StartCoordinator({"/usr/bin/env", "LD_PRELOAD=" LOUPE_FAILING_DISK_LIBRARY,
                    "LOUPE_FAILING_DISK=" + (folder_ / "orders"), "LOUPE_FAILING_FOLDER=" + data_ + "/",
                    "ASAN_OPTIONS=verify_asan_link_order=0"});
  v1::SweepSpec spec = testing::SmallSpec(4, 6);
  spec.mutable_retry()->set_max_trial_attempts(100);
  Create("broken", spec);
  std::vector<std::unique_ptr<ChildProcess>> workers;
  for (int i = 0; i < 3; ++i) workers.push_back(StartWorker(i, 0.02));
  int hit = 0;
  int rounds = 0;
  for (; Get("broken")->state() != v1::Sweep::COMPLETED && rounds < 400; ++rounds) {
    // Every place in a commit and in an upload in turn, once and for a while.
    const int64_t failures = rounds % 2 == 0 ? 1 : 1000;
    Fail(1 + rounds % 23, failures);
    Pause(0.1);
    Heal();
    hit += orders_->failures != failures ? 1 : 0;
    Pause(0.05);
  }
  EXPECT_GT(hit, 5) << "of " << rounds << " faults";
  EXPECT_TRUE(coordinator_->process().Runs());
  ASSERT_TRUE(WaitUntilCompleted("broken", 60));
  workers.clear();
  ExpectSameAsCleanRun("broken", spec);
  coordinator_->Kill(SIGTERM);
  const auto report = coordinator::store::upkeep::Examine(data_);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(report->Damage(), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Errors, BrokenDiskTest, ::testing::Values(EIO, ENOSPC));

TEST_F(AdversityTest, ASmallSoftLimitOfFileDescriptorsIsRaisedToTheHardOne) {
  StartCoordinator({"/usr/bin/prlimit", "--nofile=64:4096"});
  std::vector<std::shared_ptr<clients::rpc::Connection>> crowd;
  for (int i = 0; i < 200; ++i) {
    crowd.push_back(coordinator_->Connect());
    ASSERT_TRUE(crowd.back()->WaitUntilConnected(absl::Seconds(30)).ok()) << i;
  }
  EXPECT_TRUE(TryCreate("after").ok());
}

// Left to itself gRPC 1.51 would never accept again.
TEST_F(AdversityTest, BeyondTheHardLimitTheCrowdWaitsTheOthersWorkAndWhoeverLeavesMakesRoom) {
  StartCoordinator({"/usr/bin/prlimit", "--nofile=96:96"}, "127.0.0.1:0", /*lease_seconds=*/60);
  ASSERT_TRUE(TryCreate("before").ok());
  const v1::LeaseKey lease = Lease();
  std::vector<std::shared_ptr<clients::rpc::Connection>> crowd;
  for (int i = 0; i < 150; ++i) crowd.push_back(coordinator_->Connect());
  // Whoever is not in tries (again).
  const auto connected = [&] {
    return std::count_if(crowd.begin(), crowd.end(),
                         [](const auto& one) { return one->channel()->GetState(true) == GRPC_CHANNEL_READY; });
  };
  // As many as there is room for, however long the others try; those who are in can do everything, files included.
  for (int i = 0; i < 20; ++i) {
    EXPECT_LT(connected(), 96);
    EXPECT_TRUE(TryCreate(fmt::format("during-{}", i)).ok());
    const absl::Status uploaded = Upload(lease, std::string(1000 + static_cast<size_t>(i), 'y'));
    EXPECT_TRUE(uploaded.ok()) << uploaded;
    Pause(0.1);
  }
  EXPECT_GT(connected(), 10);
  EXPECT_TRUE(coordinator_->process().Runs());
  std::erase_if(crowd, [](const auto& one) { return one->channel()->GetState(false) == GRPC_CHANNEL_READY; });
  ASSERT_FALSE(crowd.empty());
  // (A gRPC client without a call looks at its sockets every five seconds only; one that waits looks all the time.)
  for (size_t i = 0; i < 600 && connected() <= 10; ++i) {
    crowd[i % crowd.size()]->WaitUntilConnected(absl::Milliseconds(100)).IgnoreError();
  }
  EXPECT_GT(connected(), 10) << "there is room now";
  EXPECT_TRUE(TryCreate("after").ok());
}

// What one message or file may cost is bounded, so many of them are: a kill by the kernel for memory is a kill -9
// (process_test).
TEST_F(AdversityTest, MessagesBeyondTheLimitAndLargeFilesDoNotGrowTheProcess) {
  StartCoordinator({}, "127.0.0.1:0", /*lease_seconds=*/60);
  ASSERT_TRUE(TryCreate("before").ok());
  const double before = coordinator_->process().PeakMegabytes();
  const std::string huge(32 << 20, 'x');
  std::vector<std::thread> crowd;
  for (int i = 0; i < 32; ++i) {
    crowd.emplace_back([&] {
      const auto connection = coordinator_->Connect();
      for (int call = 0; call < 2; ++call) {
        const grpc::Status status =
            testing::RawCall(connection->channel(), "loupe.v1.SweepService/CreateSweep", "", {huge}, absl::Seconds(60));
        // When all its memory is taken gRPC also cuts connections.
        EXPECT_THAT(status.error_code(),
                    ::testing::AnyOf(grpc::StatusCode::RESOURCE_EXHAUSTED, grpc::StatusCode::UNAVAILABLE))
            << status.error_message();
      }
    });
  }
  for (std::thread& thread : crowd) thread.join();
  const absl::Status uploaded = Upload(Lease(), std::string(256 << 20, 'y'));
  EXPECT_TRUE(uploaded.ok()) << uploaded;
  // 2 GiB of messages, half of them at a time, and a file of 256 MiB; server.cc gives gRPC 512 MiB.
  EXPECT_LT(coordinator_->process().PeakMegabytes() - before, kMemoryFactor * (512 + 128));
  EXPECT_TRUE(TryCreate("after").ok());
}

TEST_F(AdversityTest, ThousandsOfIdleWatchersCostMemoryAndNoThreads) {
  const char* wanted = std::getenv("LOUPE_WATCHERS");
  const int count = wanted == nullptr ? 3000 : std::atoi(wanted);
  StartCoordinator();
  ASSERT_TRUE(TryCreate("watched").ok());
  const auto threads = [&] {
    const auto folder =
        std::filesystem::directory_iterator("/proc/" + std::to_string(coordinator_->process().pid()) + "/task");
    return std::distance(begin(folder), end(folder));
  };
  const auto before = threads();
  struct Watcher {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<v1::WatchSweepResponse>> reader;
  };
  std::vector<std::shared_ptr<clients::rpc::Connection>> connections;
  std::vector<std::unique_ptr<Watcher>> watchers;
  v1::WatchSweepRequest request;
  request.set_name("sweeps/watched");
  v1::WatchSweepResponse response;
  for (int i = 0; i < count; ++i) {
    // One connection carries 4,096 calls at a time.
    if (i % 4000 == 0) connections.push_back(coordinator_->Connect());
    watchers.push_back(std::make_unique<Watcher>());
    connections.back()->Prepare(watchers.back()->context, absl::InfiniteDuration());
    watchers.back()->reader =
        v1::SweepService::NewStub(connections.back()->channel())->WatchSweep(&watchers.back()->context, request);
  }
  for (const auto& watcher : watchers) ASSERT_TRUE(watcher->reader->Read(&response));
  EXPECT_LT(threads() - before, 64) << "a watcher costs no thread";
  const double megabytes = coordinator_->process().PeakMegabytes();
  fmt::print("{} idle watchers: {:.0f} MB at most, {} threads\n", count, megabytes, threads());
  EXPECT_LT(megabytes, kMemoryFactor * (100 + 0.03 * count));
  EXPECT_TRUE(TryCreate("meanwhile").ok());
  for (const auto& watcher : watchers) watcher->context.TryCancel();
  for (const auto& watcher : watchers) {
    while (watcher->reader->Read(&response)) {
    }
    const grpc::Status cancelled = watcher->reader->Finish();
    EXPECT_EQ(cancelled.error_code(), grpc::StatusCode::CANCELLED);
  }
}

}  // namespace
}  // namespace loupe
