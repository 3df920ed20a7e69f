// What an attempt has logged, on its way to the coordinator.
#include "worker/executor/attempt_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/logging.h"
#include "spdlog/sinks/null_sink.h"
#include "spdlog/spdlog.h"
#include "tests/worker/agent/agent_fixture.h"

namespace loupe::worker::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> TextsOf(const v1::AttemptReport& report) {
  std::vector<std::string> texts;
  for (const v1::LogLine& line : report.log()) texts.push_back(line.text());
  return texts;
}

using AttemptLogTest = HeldAttemptFixture;

TEST_F(AttemptLogTest, UnheardLinesAreRepeatedWithTheirNumbers) {
  HeldAttempt attempt = Make();
  attempt.OnLog(executor::LogLevel::kInfo, "one");
  attempt.OnLog(executor::LogLevel::kWarning, "sweeps/s/trials/0: two");
  const v1::AttemptReport first = attempt.Report();
  ASSERT_THAT(TextsOf(first), ElementsAre("one", "two")) << "whose line it is goes without saying";
  EXPECT_EQ(first.log(1).sequence(), 2);
  EXPECT_EQ(first.log(1).level(), v1::LogLine::WARNING);
  EXPECT_EQ(first.log(1).time().seconds(), 3600);
  attempt.OnLog(executor::LogLevel::kError, "three");
  EXPECT_EQ(attempt.Report().log_size(), 3);
  attempt.AcknowledgeLog(first);
  const v1::AttemptReport second = attempt.Report();
  ASSERT_EQ(second.log_size(), 1);
  EXPECT_EQ(second.log(0).sequence(), 3);
  attempt.AcknowledgeLog(first);  // an old answer, come late
  EXPECT_EQ(attempt.Report().log_size(), 1);
}

TEST_F(AttemptLogTest, PhasesSayHowLongTheyTook) {
  HeldAttempt attempt = Make();
  attempt.OnProgress("prepare", 0, 0);
  clock_.Advance(absl::Milliseconds(2300));
  attempt.OnProgress("prepare", 1, 2);
  attempt.OnProgress("train", 1, 50);
  attempt.OnProgress("wait", 1, 0);  // for another trial of the pack
  attempt.OnProgress("train", 2, 50);
  clock_.Advance(absl::Seconds(8));
  attempt.OnProgress("sample", 0, 4);
  EXPECT_THAT(TextsOf(attempt.Report()), ElementsAre("prepare begins", "train begins, 50 steps; prepare took 2.3 s",
                                                     "sample begins; train took 8.0 s"));
}

TEST_F(AttemptLogTest, TheOutcomeIsTheLastLine) {
  HeldAttempt attempt = Make();
  executor::AttemptOutcome outcome;
  outcome.failure_message = "the loss is nan";
  attempt.Finish(outcome);
  const v1::AttemptReport report = attempt.Report();
  ASSERT_THAT(TextsOf(report), ElementsAre("the loss is nan"));
  EXPECT_EQ(report.log(0).level(), v1::LogLine::ERROR);
  EXPECT_TRUE(report.has_failure());
}

TEST_F(AttemptLogTest, AnOutcomeWaitsForNoLine) {
  HeldAttempt attempt = Make();
  for (int i = 1; i <= 5000; ++i) attempt.OnLog(executor::LogLevel::kInfo, std::to_string(i));
  // The oldest of those that are kept.
  EXPECT_EQ(attempt.Report().log(0).text(), "4001");
  EXPECT_EQ(attempt.Report().log_size(), static_cast<int>(AttemptLogBuffer::kMostLines));
  executor::AttemptOutcome outcome;
  outcome.kind = executor::AttemptOutcome::Kind::kSuccess;
  attempt.Finish(outcome);
  const v1::AttemptReport report = attempt.Report();
  EXPECT_TRUE(report.has_success());
  EXPECT_EQ(report.log_size(), static_cast<int>(AttemptLogBuffer::kMostLines));
  EXPECT_EQ(report.log().rbegin()->sequence(), 5001);
}

TEST_F(AttemptLogTest, LinesOfAnyBytesFitAMessage) {
  HeldAttempt attempt = Make();
  attempt.OnLog(executor::LogLevel::kInfo, "caf\xe9 \xff");
  attempt.OnLog(executor::LogLevel::kInfo, std::string(1 << 20, 'x'));
  for (int i = 0; i < 100; ++i) attempt.OnLog(executor::LogLevel::kInfo, std::string(2000, 'y'));
  const v1::AttemptReport report = attempt.Report();
  EXPECT_EQ(report.log(0).text(), "caf\\xe9 \\xff");
  EXPECT_LE(report.log(1).text().size(), AttemptLogBuffer::kMostLineBytes);
  EXPECT_LE(report.ByteSizeLong(), AttemptLogBuffer::kMostBytes + 1024);
  EXPECT_EQ(attempt.Report(/*log_bytes=*/10).log_size(), 0);
}

TEST_F(AttemptLogTest, ALeaseHeldAgainNumbersItsLinesOn) {
  HeldAttempt before = Make();
  before.OnLog(executor::LogLevel::kInfo, "one");
  before.AcknowledgeLog(before.Report());
  before.OnLog(executor::LogLevel::kInfo, "two");
  HeldAttempt attempt = Make();
  attempt.GoOnFrom(before);
  attempt.OnLog(executor::LogLevel::kInfo, "three");
  const v1::AttemptReport report = attempt.Report();
  ASSERT_THAT(TextsOf(report), ElementsAre("two", "three"));
  EXPECT_EQ(report.log(1).sequence(), 3);
}

// The default logger of this process with the attempts' sink, and nothing on the screen.
class AttemptLogScopeTest : public AttemptLogTest {
 protected:
  AttemptLogScopeTest() {
    spdlog::set_default_logger(
        std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::null_sink_mt>()));
    executor::TellAttemptsWhatIsLogged();
  }
  ~AttemptLogScopeTest() override { spdlog::set_default_logger(before_); }
  const std::shared_ptr<spdlog::logger> before_ = spdlog::default_logger();
};

TEST_F(AttemptLogScopeTest, LinesGoToWhoseWorkItIs) {
  HeldAttempt one = Make();
  HeldAttempt other = Make();
  LogWarning("nobody's");
  {
    const executor::AttemptLogScope work(&one);
    LogWarning("the first's");
    {
      const executor::AttemptLogScope inner(&other);
      LogError("the second's");
      LogDebug("too much");
    }
    std::thread([] { LogWarning("another thread's"); }).join();
    LogInfo("the first's again");
  }
  LogWarning("nobody's again");
  EXPECT_THAT(TextsOf(one.Report()), ElementsAre("the first's", "the first's again"));
  ASSERT_THAT(TextsOf(other.Report()), ElementsAre("the second's"));
  EXPECT_EQ(other.Report().log(0).level(), v1::LogLine::ERROR);
}

}  // namespace
}  // namespace loupe::worker::agent
