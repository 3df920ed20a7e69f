// Somebody reads one snapshot of the database for long, while trials land.
//
// LOUPE_READER_SECONDS=n holds the snapshot for so long (and runs a third of that before and after it) and prints what
// happened to the WAL and to the rate of results.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "coordinator/store/data_folder.h"
#include "coordinator/store/upkeep/doctor.h"
#include "tests/integration/process_fixture.h"
#include "tests/testing/small_spec.h"

namespace loupe {
namespace {

using ::testing::IsEmpty;

constexpr char kCountSql[] = "SELECT count(*) FROM results";

class LongReaderTest : public ProcessTest {
 protected:
  struct Phase {
    double results_per_second = 0;
    double wal_megabytes = 0;  // at its end
    double largest_wal_megabytes = 0;
    double process_megabytes = 0;
  };
  double WalMegabytes() const {
    std::error_code none;
    const auto bytes =
        std::filesystem::file_size(data_ + coordinator::store::kDatabaseFile + std::string("-wal"), none);
    return none ? 0 : static_cast<double>(bytes) / (1 << 20);
  }
  Phase Watch(const char* name, double seconds) {
    const auto start = std::chrono::steady_clock::now();
    const auto elapsed = [&] {
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    const int64_t before = Get("load")->counts().succeeded();
    Phase phase;
    while (elapsed() < seconds) {
      Pause(0.1);
      phase.largest_wal_megabytes = std::max(phase.largest_wal_megabytes, WalMegabytes());
    }
    phase.results_per_second = static_cast<double>(Get("load")->counts().succeeded() - before) / elapsed();
    phase.wal_megabytes = WalMegabytes();
    phase.process_megabytes = coordinator_->process().PeakMegabytes();
    fmt::print(
        "{:<16} {:6.0f} s: {:6.1f} results/s; WAL {:7.1f} MiB at the end, {:7.1f} MiB at most; coordinator {:4.0f} MB\n",
        name, elapsed(), phase.results_per_second, phase.wal_megabytes, phase.largest_wal_megabytes,
        phase.process_megabytes);
    return phase;
  }
  static int64_t Count(coordinator::store::SqliteDb& db) {
    int64_t count = -1;
    const absl::Status status =
        db.ForEach(kCountSql, [&](const coordinator::store::SqliteRow& row) { count = row.Int(0); });
    EXPECT_TRUE(status.ok()) << status;
    return count;
  }
};

TEST_F(LongReaderTest, SeesOneSnapshotWhileResultsLandAndTheWalIsUsedAgainAfterwards) {
  const char* wanted = std::getenv("LOUPE_READER_SECONDS");
  const double seconds = wanted == nullptr ? 4 : std::atof(wanted);
  StartCoordinator();
  // More than can be done in that time.
  Create("load", testing::SmallSpec(1000, std::max(4, static_cast<int>(seconds / 5))));
  std::vector<std::unique_ptr<ChildProcess>> workers;
  for (int i = 0; i < 4; ++i) workers.push_back(StartWorker(i, 0));
  while (Get("load")->counts().succeeded() < 20) Pause(0.05);
  Watch("before", seconds / 3);

  const auto reader = coordinator::store::OpenDatabase(data_);
  ASSERT_TRUE(reader.ok()) << reader.status();
  ASSERT_TRUE((*reader)->Execute("BEGIN").ok());
  const int64_t seen = Count(**reader);
  const Phase during = Watch("with the reader", seconds);
  EXPECT_EQ(Count(**reader), seen) << "one snapshot, to its end";
  EXPECT_GT(during.results_per_second, 0) << "the writer goes on";
  ASSERT_TRUE((*reader)->Execute("COMMIT").ok());
  EXPECT_GT(Count(**reader), seen);

  const Phase after = Watch("after it", std::max(3.0, seconds / 3));
  EXPECT_GT(after.results_per_second, 0);
  // 16 MiB is what a WAL has between two checkpoints.
  EXPECT_LE(after.largest_wal_megabytes, during.largest_wal_megabytes + 17) << "it is not written on and on";
  workers.clear();
  coordinator_->Kill(SIGTERM);
  const auto report = coordinator::store::upkeep::Examine(data_);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(report->Damage(), IsEmpty());
}

}  // namespace
}  // namespace loupe
