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
#include "tests/testing/http_receiver.h"
#include "tests/testing/temp_folder.h"

namespace loupe::coordinator {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr char kSecret[] = "sixteen-letters!";

class NotifierTest : public ::testing::Test {
 protected:
  void SetUp() override {
    store_ = *SqliteStore::Open({.path = folder_ / "coordinator.db"});
    SweepRecord sweep;
    sweep.key = 1;
    sweep.id = "small";
    sweep.uid = "u";
    sweep.cells = 2;
    sweep.replicates = 1;
    ASSERT_TRUE(store_->Commit({InsertSweep{sweep, [](int64_t) { return std::string("{}"); }}}).ok());
    ended_ = sweep;
    ended_.state = SweepState::kCompleted;
  }
  void Write(int port, const std::string& more) {
    ASSERT_TRUE(
        WritePrivateFile(folder_ / "webhooks.json",
                         fmt::format(R"([{{"name": "here", "url": "http://127.0.0.1:{}/hook", "secret": "{}"{}}}])",
                                     port, kSecret, more))
            .ok());
  }
  std::unique_ptr<Notifier> Start() {
    auto notifier = Notifier::Start(folder_.path(), *store_, SystemClock(), SystemRandom(), options_);
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
  NotifierOptions options_{.timeout = absl::Seconds(5), .waits = {absl::Milliseconds(1), absl::Milliseconds(1)}};
  std::unique_ptr<SqliteStore> store_;
  SweepRecord ended_;
};

TEST_F(NotifierTest, AFinishedSweepIsToldAndSigned) {
  testing::HttpReceiver receiver;
  Write(receiver.port(), R"(, "allow_private": true)");
  const auto notifier = Start();
  notifier->Note({UpdateSweep{ended_}});
  // The same state again is no news.
  notifier->Note({UpdateSweep{ended_}});
  notifier->Note({UpdateTrial{.trial = {1, 1},
                              .state = TrialState::kFailed,
                              .last_failure = Failure{FailureClass::kUserError, "the loss is NaN"}}});
  const std::vector<testing::ReceivedPost> posts = receiver.Wait(2);
  ASSERT_EQ(posts.size(), 2U);
  EXPECT_EQ(posts[0].target, "/hook");
  const json body = json::parse(posts[0].body);
  EXPECT_EQ(body["event"], "sweep.finished");
  EXPECT_EQ(body["sweep"], "sweeps/small");
  EXPECT_EQ(body["message"], "Sweep 'small' is completed: 0 of 2 trials succeeded, 0 failed");
  EXPECT_EQ(posts[0].headers.at("loupe-delivery"), body["id"]);
  const std::string signature = posts[0].headers.at("loupe-signature");
  const int64_t time = std::stoll(signature.substr(2));
  EXPECT_EQ(signature, SignatureOf(kSecret, absl::FromUnixSeconds(time), posts[0].body));
  EXPECT_EQ(json::parse(posts[1].body)["message"], "Trial 1 of sweep 'small' failed: the loss is NaN");
}

TEST_F(NotifierTest, TroubleIsTriedAgain) {
  testing::HttpReceiver receiver({503, 429});
  Write(receiver.port(), R"(, "allow_private": true)");
  const auto notifier = Start();
  notifier->Note({UpdateSweep{ended_}});
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
  notifier->Note({UpdateSweep{ended_}});
  AwaitLog("try 1: answered 404; given up");
}

TEST_F(NotifierTest, ThisMachineIsNoTargetUnlessAllowed) {
  testing::HttpReceiver receiver;
  Write(receiver.port(), "");
  const auto notifier = Start();
  notifier->Note({UpdateSweep{ended_}});
  AwaitLog("private network");
  EXPECT_TRUE(receiver.Wait(1, absl::ZeroDuration()).empty());
}

TEST_F(NotifierTest, OnlyWantedEventsAreSent) {
  testing::HttpReceiver receiver;
  Write(receiver.port(), R"(, "allow_private": true, "events": ["sweep.paused"])");
  const auto notifier = Start();
  notifier->Note({UpdateSweep{ended_}});
  SweepRecord paused = ended_;
  paused.state = SweepState::kPaused;
  notifier->Note({UpdateSweep{paused}});  // by a person: no news to anybody
  paused.state = SweepState::kActive;
  notifier->Note({UpdateSweep{paused}});
  paused.state = SweepState::kPaused;
  paused.state_reason = "5 trials failed";
  notifier->Note({UpdateSweep{paused}});
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
    notifier->Note({UpdateTrial{.trial = {1, trial}, .state = TrialState::kFailed, .last_failure = std::nullopt}});
  EXPECT_EQ(receiver.Wait(3).size(), 3U);
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
  notifier->Note({UpdateSweep{ended_}});
  AwaitLog("try 1: taken by the command");
  EXPECT_THAT(ReadFile(folder_ / "mail").value_or(""),
              AllOf(StartsWith("To: ops@example.org\nSubject: [loupe] sweep.finished (sweeps/small)\n"),
                    HasSubstr("\n\nSweep 'small' is completed")));
  EXPECT_EQ(ReadFile(folder_ / "arguments").value_or(""), "-t $(touch shell) ;\n");
}

TEST_F(MailTest, FailedCommandIsTriedAgain) {
  Command("if [ -e once ]; then exit 0; fi; touch once; echo 'no route' >&2; exit 75");
  const auto notifier = Start();
  notifier->Note({UpdateSweep{ended_}});
  AwaitLog("try 2: taken by the command");
  EXPECT_THAT(Log(), HasSubstr("ended with exit code 75: no route; again in 1ms"));
}

TEST_F(MailTest, CommandThatHangsIsEnded) {
  Command("sleep 600 & echo $! > child; wait");
  options_.command_timeout = absl::Milliseconds(300);
  options_.waits = {};
  const auto notifier = Start();
  notifier->Note({UpdateSweep{ended_}});
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
    return std::string(
        Notifier::Start(folder_.path(), *store_, SystemClock(), SystemRandom(), options_).status().message());
  };
  EXPECT_THAT(refused(""), HasSubstr("--notify-command"));
  EXPECT_THAT(refused("sendmail -t"), HasSubstr("absolute path"));
  EXPECT_THAT(refused("/no/such/program"), HasSubstr("no program"));
  EXPECT_THAT(refused(folder_.path()), HasSubstr("no program"));
}

TEST_F(NotifierTest, ADamagedFileIsSaidAtStart) {
  ASSERT_TRUE(WritePrivateFile(folder_ / "webhooks.json", "[{}]").ok());
  EXPECT_TRUE(absl::IsInvalidArgument(
      Notifier::Start(folder_.path(), *store_, SystemClock(), SystemRandom(), options_).status()));
}

}  // namespace
}  // namespace loupe::coordinator
