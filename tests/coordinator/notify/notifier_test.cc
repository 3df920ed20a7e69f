// Webhooks from a real coordinator to a real socket.
#include "coordinator/notify/notifier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
using ::testing::HasSubstr;
using ::testing::Not;

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

TEST_F(NotifierTest, ADamagedFileIsSaidAtStart) {
  ASSERT_TRUE(WritePrivateFile(folder_ / "webhooks.json", "[{}]").ok());
  EXPECT_TRUE(absl::IsInvalidArgument(
      Notifier::Start(folder_.path(), *store_, SystemClock(), SystemRandom(), options_).status()));
}

}  // namespace
}  // namespace loupe::coordinator
