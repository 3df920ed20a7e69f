// Logs of attempts: bounded, numbered, and in nobody's way.
#include "coordinator/store/trial_logs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <future>

#include "tests/testing/temp_folder.h"

namespace loupe::coordinator::store {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const LoggedAttempt kAttempt{"uid-a", 3, 1};
constexpr char kLease[] = "lease";

std::vector<LogLine> Lines(int64_t from, int64_t to, const std::string& text = "line") {
  std::vector<LogLine> lines;
  for (int64_t i = from; i <= to; ++i) {
    lines.push_back({i, absl::FromUnixSeconds(1'800'000'000 + i), LogLevel::kWarning, text + std::to_string(i)});
  }
  return lines;
}

std::vector<int64_t> NumbersOf(const LogPage& page) {
  std::vector<int64_t> numbers;
  for (const LogLine& line : page.lines) numbers.push_back(line.sequence);
  return numbers;
}

class TrialLogsTest : public ::testing::Test {
 protected:
  TrialLogs::Options Options() const {
    // So long that only reads write what waits.
    return {.database = {.path = folder_ / "logs.db"}, .interval = absl::Hours(1)};
  }
  LogPage Read(TrialLogs& logs, const LoggedAttempt& attempt = kAttempt, int64_t after = 0, int64_t limit = 1000,
               int64_t tail = 0) {
    const auto page = logs.Read(attempt, after, limit, tail);
    EXPECT_TRUE(page.ok()) << page.status();
    return page.ok() ? *page : LogPage{};
  }
  testing::TempFolder folder_;
};

TEST_F(TrialLogsTest, LinesOutliveARestart) {
  {
    TrialLogs logs(Options());
    logs.Append(kAttempt, kLease, Lines(1, 3));
  }
  TrialLogs logs(Options());
  const LogPage page = Read(logs);
  EXPECT_THAT(NumbersOf(page), ElementsAre(1, 2, 3));
  EXPECT_EQ(page.lines[1].text, "line2");
  EXPECT_EQ(page.lines[1].level, LogLevel::kWarning);
  EXPECT_EQ(page.lines[1].time, absl::FromUnixSeconds(1'800'000'002));
  EXPECT_FALSE(page.more);
  EXPECT_EQ(page.dropped, 0);
}

TEST_F(TrialLogsTest, RepeatedLinesAddNothing) {
  TrialLogs logs(Options());
  logs.Append(kAttempt, kLease, Lines(1, 3));
  logs.Append(kAttempt, kLease, Lines(1, 3));
  logs.Append(kAttempt, kLease, Lines(2, 4));
  EXPECT_THAT(NumbersOf(Read(logs)), ElementsAre(1, 2, 3, 4));
}

TEST_F(TrialLogsTest, MissingNumbersAreCounted) {
  TrialLogs logs(Options());
  logs.Append(kAttempt, kLease, Lines(1, 2));
  logs.Append(kAttempt, kLease, Lines(6, 7));
  const LogPage page = Read(logs);
  EXPECT_THAT(NumbersOf(page), ElementsAre(1, 2, 6, 7));
  EXPECT_EQ(page.dropped, 3);
}

TEST_F(TrialLogsTest, PagesAndTailsAreCutWhereAsked) {
  TrialLogs logs(Options());
  logs.Append(kAttempt, kLease, Lines(1, 10));
  LogPage page = Read(logs, kAttempt, /*after=*/2, /*limit=*/3);
  EXPECT_THAT(NumbersOf(page), ElementsAre(3, 4, 5));
  EXPECT_TRUE(page.more);
  page = Read(logs, kAttempt, 7, 3);
  EXPECT_THAT(NumbersOf(page), ElementsAre(8, 9, 10));
  EXPECT_FALSE(page.more);
  EXPECT_THAT(NumbersOf(Read(logs, kAttempt, 0, 1000, /*tail=*/2)), ElementsAre(9, 10));
  EXPECT_THAT(NumbersOf(Read(logs, kAttempt, 9, 1000, 5)), ElementsAre(10));
  // A tail that is longer than a page begins at its beginning.
  page = Read(logs, kAttempt, 0, 2, 4);
  EXPECT_THAT(NumbersOf(page), ElementsAre(7, 8));
  EXPECT_TRUE(page.more);
}

TEST_F(TrialLogsTest, AnAttemptKeepsItsLatestLines) {
  TrialLogs::Options options = Options();
  options.database.attempt_lines = 100;
  TrialLogs logs(options);
  for (int64_t i = 1; i <= 1000; i += 10) logs.Append(kAttempt, kLease, Lines(i, i + 9));
  const LogPage page = Read(logs);
  EXPECT_LE(page.lines.size(), 100U);
  EXPECT_GE(page.lines.size(), 90U);
  EXPECT_EQ(page.lines.back().sequence, 1000);
  EXPECT_EQ(page.dropped, 1000 - static_cast<int64_t>(page.lines.size()));
}

TEST_F(TrialLogsTest, AnAttemptsBytesAreBounded) {
  TrialLogs::Options options = Options();
  options.database.attempt_bytes = 10'000;
  TrialLogs logs(options);
  logs.Append(kAttempt, kLease, Lines(1, 50, std::string(1000, 'x')));
  const LogPage page = Read(logs);
  EXPECT_LE(page.lines.size(), 9U);
  EXPECT_EQ(page.lines.back().sequence, 50);
}

TEST_F(TrialLogsTest, TheOldestAttemptsGoFirst) {
  TrialLogs::Options options = Options();
  options.database.all_bytes = 50'000;
  TrialLogs logs(options);
  for (int64_t trial = 0; trial < 100; ++trial) {
    logs.Append({"uid-a", trial, 1}, kLease, Lines(1, 10, std::string(100, 'x')));
    Read(logs);
  }
  EXPECT_THAT(NumbersOf(Read(logs, {"uid-a", 0, 1})), IsEmpty());
  EXPECT_EQ(Read(logs, {"uid-a", 99, 1}).lines.size(), 10U);
}

TEST_F(TrialLogsTest, WhatCannotWaitIsDroppedAndCounted) {
  TrialLogs::Options options = Options();
  options.queue_bytes = 3000;
  TrialLogs logs(options);
  for (int64_t i = 1; i <= 20; ++i) logs.Append(kAttempt, kLease, Lines(i, i, std::string(300, 'x')));
  const LogPage page = Read(logs);
  EXPECT_EQ(page.lines.back().sequence, 20);
  EXPECT_LT(page.lines.size(), 10U);
  EXPECT_EQ(page.dropped, 20 - static_cast<int64_t>(page.lines.size()));
}

TEST_F(TrialLogsTest, AForgottenSweepHasNoLogs) {
  TrialLogs logs(Options());
  const LoggedAttempt other{"uid-b", 3, 1};
  logs.Append(kAttempt, kLease, Lines(1, 3));
  logs.Append(other, kLease, Lines(1, 2));
  logs.Forget("uid-a");
  EXPECT_THAT(Read(logs).lines, IsEmpty());
  EXPECT_EQ(Read(logs, other).lines.size(), 2U);
  logs.KeepOnly({"uid-c"});
  EXPECT_THAT(Read(logs, other).lines, IsEmpty());
}

// The coordinator's database was put back to an earlier state, and the attempt is another one.
TEST_F(TrialLogsTest, AnotherLeaseBeginsAnew) {
  TrialLogs logs(Options());
  logs.Append(kAttempt, kLease, Lines(1, 5));
  logs.Append(kAttempt, "another", Lines(1, 2, "new"));
  const LogPage page = Read(logs);
  ASSERT_THAT(NumbersOf(page), ElementsAre(1, 2));
  EXPECT_EQ(page.lines[0].text, "new1");
}

TEST_F(TrialLogsTest, ADamagedFileIsPutAside) {
  std::ofstream(folder_ / "logs.db") << std::string(5000, 'x');
  TrialLogs logs(Options());
  logs.Append(kAttempt, kLease, Lines(1, 1));
  EXPECT_EQ(Read(logs).lines.size(), 1U);
  EXPECT_TRUE(std::filesystem::exists(folder_ / "logs.db.damaged"));
}

TEST_F(TrialLogsTest, WithoutAFileThereAreNoLogs) {
  std::filesystem::create_directory(folder_ / "logs.db");
  TrialLogs logs(Options());
  logs.Append(kAttempt, kLease, Lines(1, 1));
  logs.KeepOnly({});
  EXPECT_EQ(logs.Read(kAttempt, 0, 10, 0).status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(TrialLogsTest, NewLinesWakeWhoWaits) {
  TrialLogs::Options options = Options();
  options.interval = absl::ZeroDuration();
  TrialLogs logs(options);
  logs.Append(kAttempt, kLease, Lines(1, 2));
  std::promise<void> woken;
  logs.Wait(kAttempt, 2, absl::Hours(1), [&] { woken.set_value(); });
  logs.Append({"uid-a", 4, 1}, kLease, Lines(1, 9));  // another's
  logs.Append(kAttempt, kLease, Lines(3, 3));
  EXPECT_EQ(woken.get_future().wait_for(std::chrono::seconds(20)), std::future_status::ready);
}

TEST_F(TrialLogsTest, LinesThatCameBeforeWakeAtOnce) {
  TrialLogs logs(Options());
  logs.Append(kAttempt, kLease, Lines(1, 3));
  bool woken = false;
  logs.Wait(kAttempt, 2, absl::Hours(1), [&] { woken = true; });
  EXPECT_TRUE(woken);
}

TEST_F(TrialLogsTest, WaitingEndsInTimeAndAtShutdown) {
  TrialLogs logs(Options());
  std::promise<void> in_time;
  logs.Wait(kAttempt, 0, absl::Milliseconds(1), [&] { in_time.set_value(); });
  EXPECT_EQ(in_time.get_future().wait_for(std::chrono::seconds(20)), std::future_status::ready);
  int woken = 0;
  logs.Wait(kAttempt, 0, absl::Hours(1), [&] { ++woken; });
  EXPECT_EQ(woken, 0);
  logs.EndWaits();
  EXPECT_EQ(woken, 1);
  logs.Wait(kAttempt, 0, absl::Hours(1), [&] { ++woken; });
  EXPECT_EQ(woken, 2);
}

}  // namespace
}  // namespace loupe::coordinator::store
