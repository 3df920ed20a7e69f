// Webhooks from a real coordinator to a real socket.
#include "coordinator/notify/notifier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/time/clock.h"
#include "common/atomic_file.h"
#include "common/private_file.h"
#include "coordinator/store/sqlite_store.h"
#include "fmt/format.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/http_receiver.h"
#include "tests/testing/temp_folder.h"

namespace loupe::coordinator::notify {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr char kSecret[] = "sixteen-letters!";

class NotifierTest : public ::testing::Test {
 protected:
  void SetUp() override {
    store_ = *store::SqliteStore::Open({.path = folder_ / "coordinator.db"});
    scheduler::SweepRecord sweep;
    sweep.key = 1;
    sweep.id = "small";
    sweep.uid = "u";
    sweep.cells = 2;
    sweep.replicates = 1;
    ASSERT_TRUE(store_->Commit({scheduler::InsertSweep{sweep, [](int64_t) { return std::string("{}"); }}}).ok());
    ended_ = sweep;
    ended_.state = scheduler::SweepState::kCompleted;
  }
  void Write(int port, const std::string& more) {
    ASSERT_TRUE(
        WritePrivateFile(folder_ / "webhooks.json",
                         fmt::format(R"([{{"name": "here", "url": "http://127.0.0.1:{}/hook", "secret": "{}"{}}}])",
                                     port, kSecret, more))
            .ok());
  }
  std::unique_ptr<Notifier> Start() {
    auto notifier = Notifier::Start(folder_.path(), *store_, *clock_, options_);
    EXPECT_TRUE(notifier.ok()) << notifier.status();
    return *std::move(notifier);
  }
  std::string Log() { return ReadFile(folder_ / "webhooks.log").value_or(""); }
  // Until the log says so.
  void AwaitLog(const std::string& words) {
    for (int i = 0; i < 1000 && Log().find(words) == std::string::npos; ++i) absl::SleepFor(absl::Milliseconds(10));
    EXPECT_THAT(Log(), HasSubstr(words));
  }

  const testing::TempFolder folder_;
  const Clock* clock_ = &SystemClock();
  NotifierOptions options_{.timeout = absl::Seconds(5), .waits = {absl::Milliseconds(1), absl::Milliseconds(1)}};
  std::unique_ptr<store::SqliteStore> store_;
  scheduler::SweepRecord ended_;
};

TEST_F(NotifierTest, AFinishedSweepIsToldAndSigned) {
  testing::HttpReceiver receiver;
  Write(receiver.port(), R"(, "allow_private": true)");
  const auto notifier = Start();
  notifier->Note({scheduler::UpdateSweep{ended_}});
  // The same state again is no news.
  notifier->Note({scheduler::UpdateSweep{ended_}});
  notifier->Note({scheduler::UpdateTrial{
      .trial = {1, 1},
      .state = TrialState::kFailed,
      .last_failure = scheduler::Failure{scheduler::FailureClass::kUserError, "the loss is NaN"}}});
  const std::vector<testing::ReceivedPost> posts = receiver.Wait(2);
  ASSERT_EQ(posts.size(), 2U);
  EXPECT_EQ(posts[0].target, "/hook");
  const json body = json::parse(posts[0].body);
  EXPECT_EQ(body["event"], "sweep.finished");
  EXPECT_EQ(body["sweep"], "sweeps/small");
  EXPECT_EQ(body["message"], "Sweep 'small' is completed: 0 of 2 trials succeeded, 0 failed");
  EXPECT_EQ(posts[0].headers.at("loupe-delivery"), body["id"].get<std::string>());
  const std::string signature = posts[0].headers.at("loupe-signature");
  const int64_t time = std::stoll(signature.substr(2));
  EXPECT_EQ(signature, SignatureOf(kSecret, absl::FromUnixSeconds(time), posts[0].body));
  EXPECT_EQ(json::parse(posts[1].body)["message"], "Trial 1 of sweep 'small' failed: the loss is NaN");
}

TEST_F(NotifierTest, TroubleIsTriedAgain) {
  testing::HttpReceiver receiver({503, 429});
  Write(receiver.port(), R"(, "allow_private": true)");
  const auto notifier = Start();
  notifier->Note({scheduler::UpdateSweep{ended_}});
  const std::vector<testing::ReceivedPost> posts = receiver.Wait(3);
  ASSERT_EQ(posts.size(), 3U);
  // The same notification each time.
  EXPECT_EQ(posts[0].body, posts[2].body);
  AwaitLog("try 3: answered 204");
  EXPECT_THAT(Log(), HasSubstr("try 1: answered 503; again in 1ms"));
}

TEST_F(NotifierTest, ARefusalIsNotTriedAgain) {
  testing::HttpReceiver receiver({404});
  Write(receiver.port(), R"(, "allow_private": true)");
  const auto notifier = Start();
  notifier->Note({scheduler::UpdateSweep{ended_}});
  AwaitLog("try 1: answered 404; given up");
}

TEST_F(NotifierTest, ThisMachineIsNoTargetUnlessAllowed) {
  testing::HttpReceiver receiver;
  Write(receiver.port(), "");
  const auto notifier = Start();
  notifier->Note({scheduler::UpdateSweep{ended_}});
  AwaitLog("private network");
  EXPECT_TRUE(receiver.Wait(1, absl::ZeroDuration()).empty());
}

TEST_F(NotifierTest, OnlyWantedEventsAreSent) {
  testing::HttpReceiver receiver;
  Write(receiver.port(), R"(, "allow_private": true, "events": ["sweep.paused"])");
  const auto notifier = Start();
  notifier->Note({scheduler::UpdateSweep{ended_}});
  scheduler::SweepRecord paused = ended_;
  paused.state = scheduler::SweepState::kPaused;
  notifier->Note({scheduler::UpdateSweep{paused}});  // by a person: no news to anybody
  paused.state = scheduler::SweepState::kActive;
  notifier->Note({scheduler::UpdateSweep{paused}});
  paused.state = scheduler::SweepState::kPaused;
  paused.state_reason = "5 trials failed";
  notifier->Note({scheduler::UpdateSweep{paused}});
  const std::vector<testing::ReceivedPost> posts = receiver.Wait(1);
  ASSERT_EQ(posts.size(), 1U);
  EXPECT_EQ(json::parse(posts[0].body)["message"], "Sweep 'small' is paused: 5 trials failed");
}

TEST_F(NotifierTest, AReceiverThatWaitsHoldsUpNobody) {
  // One that takes the connection and never answers.
  const testing::SilentListener silent;
  testing::HttpReceiver receiver;
  ASSERT_TRUE(WritePrivateFile(folder_ / "webhooks.json", fmt::format(R"([
      {{"name": "a", "url": "http://127.0.0.1:{}/", "secret": "{}", "allow_private": true}},
      {{"name": "b", "url": "http://127.0.0.1:{}/", "secret": "{}", "allow_private": true}}])",
                                                                      silent.port(), kSecret, receiver.port(), kSecret))
                  .ok());
  const auto notifier = Start();
  // One after the other, the third would wait for the time limit of three tries: longer than is waited here.
  for (int64_t trial = 0; trial < 3; ++trial)
    notifier->Note(
        {scheduler::UpdateTrial{.trial = {1, trial}, .state = TrialState::kFailed, .last_failure = std::nullopt}});
  EXPECT_EQ(receiver.Wait(3).size(), 3U);
}

TEST_F(NotifierTest, WhatWaitsOutlivesTheProcess) {
  testing::FakeClock clock;
  clock_ = &clock;
  options_.waits = {absl::Hours(1)};
  testing::HttpReceiver receiver({500});
  Write(receiver.port(), R"(, "allow_private": true)");
  const auto fails = [&](int64_t trial) {
    return scheduler::UpdateTrial{.trial = {1, trial}, .state = TrialState::kFailed, .last_failure = std::nullopt};
  };
  auto notifier = Start();
  for (int64_t trial = 0; trial < 2; ++trial) notifier->Note({fails(trial)});
  AwaitLog("try 1: answered 500; again in 1h");
  // The second waits for the first: in the order of events.
  EXPECT_EQ(receiver.Wait(1).size(), 1U);
  notifier.reset();
  clock.Advance(absl::Minutes(59));
  notifier = Start();
  notifier->Note({scheduler::UpdateSweep{ended_}});
  EXPECT_EQ(receiver.Wait(2, absl::Milliseconds(200)).size(), 1U);
  notifier.reset();
  clock.Advance(absl::Minutes(1));
  notifier = Start();
  const std::vector<testing::ReceivedPost> posts = receiver.Wait(4);
  ASSERT_EQ(posts.size(), 4U);
  EXPECT_EQ(posts[1].body, posts[0].body);
  EXPECT_EQ(posts[1].headers.at("loupe-delivery"), posts[0].headers.at("loupe-delivery"));
  EXPECT_EQ(json::parse(posts[2].body)["trial"], "sweeps/small/trials/1");
  EXPECT_EQ(json::parse(posts[3].body)["event"], "sweep.finished");
  AwaitLog("sweep.finished");
  // And is not sent again.
  notifier.reset();
  notifier = Start();
  EXPECT_EQ(receiver.Wait(5, absl::Milliseconds(200)).size(), 4U);
}

// Committed, and killed before anybody took note of it: here nobody calls Note.
TEST_F(NotifierTest, WhatWasCommittedIsFoundAtTheStart) {
  testing::HttpReceiver receiver;
  Write(receiver.port(), R"(, "allow_private": true)");
  const absl::Time start = SystemClock().WallNow();
  auto lost = [&](int64_t trial, absl::Time end_time) {
    return scheduler::Effects{
        scheduler::StartAttempt{{1, trial}, 1, std::string(64, 'a'), "w1", "s", start},
        scheduler::EndAttempt{{1, trial}, 1, scheduler::AttemptEnd::kLost, std::nullopt, end_time},
        scheduler::UpdateTrial{
            .trial = {1, trial}, .state = TrialState::kQuarantined, .epoch = 1, .last_failure = std::nullopt}};
  };
  // Before anybody was to be told: old news.
  ASSERT_TRUE(store_->Commit(lost(0, start)).ok());
  Start().reset();
  EXPECT_TRUE(receiver.Wait(1, absl::ZeroDuration()).empty());
  const scheduler::Effects second = lost(1, SystemClock().WallNow());
  ASSERT_TRUE(store_->Commit(second).ok());
  ended_.end_time = SystemClock().WallNow();
  ended_.update_time = *ended_.end_time;
  ASSERT_TRUE(store_->Commit({scheduler::UpdateSweep{ended_}}).ok());
  auto notifier = Start();
  std::vector<testing::ReceivedPost> posts = receiver.Wait(3);
  ASSERT_EQ(posts.size(), 3U);
  std::vector<std::string> events;
  events.reserve(posts.size());
  for (const auto& post : posts) events.push_back(post.headers.at("loupe-event"));
  EXPECT_THAT(events, ::testing::ElementsAre("worker.lost", "trial.failed", "sweep.finished"));
  EXPECT_EQ(json::parse(posts[0].body)["worker"], "workers/w1");
  // Noted as it happens, they have the ids under which they were found.
  notifier->Note(second);
  posts = receiver.Wait(4);
  ASSERT_EQ(posts.size(), 4U);
  EXPECT_EQ(posts[3].headers.at("loupe-delivery"), posts[1].headers.at("loupe-delivery"));
}

TEST_F(NotifierTest, WhatWaitsHasItsBounds) {
  testing::FakeClock clock;
  clock_ = &clock;
  options_.waits = {absl::Hours(30)};
  options_.most_waiting = 2;
  testing::HttpReceiver receiver({503});
  Write(receiver.port(), R"(, "allow_private": true)");
  auto notifier = Start();
  for (int64_t trial = 0; trial < 4; ++trial) {
    notifier->Note(
        {scheduler::UpdateTrial{.trial = {1, trial}, .state = TrialState::kFailed, .last_failure = std::nullopt}});
    if (trial == 0) AwaitLog("answered 503");
  }
  AwaitLog("try 0: given up: too many wait");
  notifier.reset();
  clock.Advance(absl::Hours(25));
  notifier = Start();
  AwaitLog("given up: older than 24h");
  notifier.reset();
  // Nobody is left to be told.
  notifier = Start();
  notifier->Note({scheduler::UpdateSweep{ended_}});
  ASSERT_EQ(receiver.Wait(2).size(), 2U);
}

TEST_F(NotifierTest, RemovedReceiverIsGivenUp) {
  testing::HttpReceiver receiver({500});
  options_.waits = {absl::Hours(1)};
  Write(receiver.port(), R"(, "allow_private": true)");
  auto notifier = Start();
  notifier->Note({scheduler::UpdateSweep{ended_}});
  AwaitLog("answered 500; again in 1h");
  notifier.reset();
  ASSERT_TRUE(WritePrivateFile(folder_ / "webhooks.json", "[]").ok());
  notifier = Start();
  AwaitLog("given up: there is no such webhook any more");
}

TEST_F(NotifierTest, DamagedStoreOfDeliveriesIsPutAside) {
  testing::HttpReceiver receiver;
  Write(receiver.port(), R"(, "allow_private": true)");
  ASSERT_TRUE(WritePrivateFile(folder_ / "deliveries.db", std::string(5000, 'x')).ok());
  const auto notifier = Start();
  notifier->Note({scheduler::UpdateSweep{ended_}});
  EXPECT_EQ(receiver.Wait(1).size(), 1U);
  EXPECT_TRUE(std::filesystem::exists(folder_ / "deliveries.db.damaged"));
}

// A stand-in for sendmail, which keeps what it reads.
class MailTest : public NotifierTest {
 protected:
  void SetUp() override {
    NotifierTest::SetUp();
    ASSERT_TRUE(WritePrivateFile(folder_ / "webhooks.json",
                                 R"([{"name": "ops", "email": ["ops@example.org"], "events": ["sweep.finished"]}])")
                    .ok());
  }
  void Command(const std::string& script) {
    ASSERT_TRUE(WritePrivateFile(folder_ / "sendmail", "#!/bin/sh\ncd " + folder_.path() + "\n" + script).ok());
    std::filesystem::permissions(folder_ / "sendmail", std::filesystem::perms::owner_all);
    options_.command = (folder_ / "sendmail") + " -t $(touch shell) ;";
  }
};

TEST_F(MailTest, CommandGetsTheMessageAndNoShell) {
  Command("echo \"$@\" > arguments; cat > mail");
  const auto notifier = Start();
  notifier->Note({scheduler::UpdateSweep{ended_}});
  AwaitLog("try 1: taken by the command");
  EXPECT_THAT(ReadFile(folder_ / "mail").value_or(""),
              AllOf(StartsWith("To: ops@example.org\nSubject: [loupe] sweep.finished (sweeps/small)\n"),
                    HasSubstr("\n\nSweep 'small' is completed")));
  EXPECT_EQ(ReadFile(folder_ / "arguments").value_or(""), "-t $(touch shell) ;\n");
}

TEST_F(MailTest, FailedCommandIsTriedAgain) {
  Command("if [ -e once ]; then exit 0; fi; touch once; echo 'no route' >&2; exit 75");
  const auto notifier = Start();
  notifier->Note({scheduler::UpdateSweep{ended_}});
  AwaitLog("try 2: taken by the command");
  EXPECT_THAT(Log(), HasSubstr("ended with exit code 75: no route; again in 1ms"));
}

TEST_F(MailTest, CommandThatHangsIsEnded) {
  Command("sleep 600 & echo $! > child; wait");
  options_.command_timeout = absl::Milliseconds(300);
  options_.waits = {};
  const auto notifier = Start();
  notifier->Note({scheduler::UpdateSweep{ended_}});
  AwaitLog("has not ended in 300ms; given up");
  // With what it started: a process that is gone, or a zombie that nobody has waited for yet.
  const std::string child = ReadFile(folder_ / "child").value_or("");
  const std::string path = fmt::format("/proc/{}/stat", child.substr(0, child.find('\n')));
  for (int i = 0; i < 1000 && std::filesystem::exists(path); ++i) absl::SleepFor(absl::Milliseconds(10));
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(MailTest, MailWithoutACommandIsSaidAtStart) {
  const auto refused = [&](const std::string& command) {
    options_.command = command;
    return std::string(Notifier::Start(folder_.path(), *store_, *clock_, options_).status().message());
  };
  EXPECT_THAT(refused(""), HasSubstr("--notify-command"));
  EXPECT_THAT(refused("sendmail -t"), HasSubstr("absolute path"));
  EXPECT_THAT(refused("/no/such/program"), HasSubstr("no program"));
  EXPECT_THAT(refused(folder_.path()), HasSubstr("no program"));
}

TEST_F(NotifierTest, ADamagedFileIsSaidAtStart) {
  ASSERT_TRUE(WritePrivateFile(folder_ / "webhooks.json", "[{}]").ok());
  EXPECT_TRUE(absl::IsInvalidArgument(Notifier::Start(folder_.path(), *store_, *clock_, options_).status()));
}

}  // namespace
}  // namespace loupe::coordinator::notify
