#include "coordinator/trace/sweep_traces.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "coordinator/store/file_mark.h"
#include "coordinator/store/sqlite_store.h"
#include "fmt/format.h"
#include "tests/testing/http_receiver.h"
#include "tests/testing/temp_folder.h"

namespace loupe::coordinator::trace {
namespace {

using nlohmann::json;

const loupe::trace::TraceContext kCaller{"4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", true};

class SweepTracesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    exporter_ = *loupe::trace::SpanExporter::Start({.endpoint = fmt::format("http://127.0.0.1:{}", receiver_.port()),
                                                    .service = "loupe-coordinator",
                                                    .version = "1",
                                                    .interval = absl::Milliseconds(1)});
    store_ = *store::SqliteStore::Open({.path = folder_ / "coordinator.db"});
    StartAgain(exporter_.get());
    sweep_.key = 1;
    sweep_.id = "small";
    sweep_.uid = "u";
    sweep_.cells = 2;
    sweep_.replicates = 1;
  }
  void StartAgain(loupe::trace::SpanExporter* exporter) { traces_.emplace(folder_ / "traces.db", *store_, exporter); }
  void Commit(const scheduler::Effects& effects) {
    ASSERT_TRUE(store_->Commit(effects).ok());
    traces_->Note(effects);
  }
  void Create() {
    Commit({scheduler::InsertSweep{sweep_, [](int64_t) { return std::string("{}"); }}});
  }
  static scheduler::Effects Start(int64_t trial) {
    return {scheduler::StartAttempt{{1, trial}, 1, std::string(64, 'a'), "w1", "s", absl::FromUnixSeconds(100)}};
  }
  static scheduler::Effects End(int64_t trial, scheduler::AttemptEnd outcome) {
    return {scheduler::EndAttempt{{1, trial}, 1, outcome, std::nullopt, absl::FromUnixSeconds(103)}};
  }
  json TheSpan() {
    const auto posts = receiver_.Wait(1);
    if (posts.size() != 1) return {};
    return json::parse(posts[0].body)["resourceSpans"][0]["scopeSpans"][0]["spans"];
  }

  const testing::TempFolder folder_;
  testing::HttpReceiver receiver_;
  std::unique_ptr<loupe::trace::SpanExporter> exporter_;
  std::unique_ptr<store::SqliteStore> store_;
  std::optional<SweepTraces> traces_;
  scheduler::SweepRecord sweep_;
};

TEST_F(SweepTracesTest, AttemptOutlivesTheProcess) {
  traces_->Keep("u", kCaller);
  Create();
  Commit(Start(0));
  const std::string told = traces_->TraceparentOf("u", 0, 1);
  EXPECT_NE(told, traces_->TraceparentOf("u", 1, 1));
  StartAgain(exporter_.get());
  EXPECT_EQ(traces_->TraceparentOf("u", 0, 1), told);
  Commit(End(0, scheduler::AttemptEnd::kSucceeded));
  const json spans = TheSpan();
  ASSERT_EQ(spans.size(), 1U);
  EXPECT_EQ(spans[0]["traceId"], kCaller.trace_id);
  EXPECT_EQ(spans[0]["parentSpanId"], kCaller.span_id);
  // The worker's spans are under it.
  EXPECT_EQ(spans[0]["spanId"], loupe::trace::ParseTraceparent(told)->span_id);
  EXPECT_EQ(spans[0]["startTimeUnixNano"], "100000000000");
  EXPECT_EQ(spans[0]["endTimeUnixNano"], "103000000000");
  EXPECT_EQ(spans[0]["attributes"][0]["value"]["stringValue"], "sweeps/small/trials/0");
}

TEST_F(SweepTracesTest, FileWithoutAMarkGoesOnAndGetsOne) {
  const std::string path = folder_ / "traces.db";
  {
    auto older = store::SqliteDb::Open(path, store::SqliteDb::Mode::kReadWriteCreate, "");
    ASSERT_TRUE(older.ok()) << older.status();
    const std::string sql = fmt::format(
        "CREATE TABLE sweep_traces (sweep_uid TEXT PRIMARY KEY, traceparent TEXT NOT NULL) STRICT;"
        "INSERT INTO sweep_traces VALUES ('u', '{}');",
        loupe::trace::ToTraceparent(kCaller));
    ASSERT_TRUE((*older)->Execute(sql.c_str()).ok());
  }
  Create();
  StartAgain(nullptr);
  EXPECT_EQ(traces_->TraceparentOf("u", 0, 1), loupe::trace::ToTraceparent(kCaller));
  auto db = store::SqliteDb::Open(path, store::SqliteDb::Mode::kReadOnly, "");
  ASSERT_TRUE(db.ok()) << db.status();
  EXPECT_NE(store::ReadFileMark(**db)->application, 0);
}

TEST_F(SweepTracesTest, AnotherProgramsFileIsLeftAlone) {
  const std::string path = folder_ / "traces.db";
  {
    auto other = store::SqliteDb::Open(path, store::SqliteDb::Mode::kReadWriteCreate, "");
    ASSERT_TRUE(other.ok()) << other.status();
    ASSERT_TRUE((*other)->Execute("PRAGMA application_id = 7; CREATE TABLE theirs (a TEXT) STRICT;").ok());
  }
  StartAgain(nullptr);
  traces_->Keep("u", kCaller);
  Create();
  // This process knows the trace; the file keeps what it had.
  EXPECT_EQ(traces_->TraceparentOf("u", 0, 1), loupe::trace::ToTraceparent(kCaller));
  auto db = store::SqliteDb::Open(path, store::SqliteDb::Mode::kReadOnly, "");
  ASSERT_TRUE(db.ok()) << db.status();
  EXPECT_EQ(store::ReadFileMark(**db)->tables, 1);
}

TEST_F(SweepTracesTest, UntracedSweepHasNothing) {
  traces_->Keep("u", {kCaller.trace_id, kCaller.span_id, /*sampled=*/false});
  Create();
  Commit(Start(0));
  EXPECT_EQ(traces_->TraceparentOf("u", 0, 1), "");
  Commit(End(0, scheduler::AttemptEnd::kLost));
  EXPECT_TRUE(receiver_.Wait(1, absl::Milliseconds(100)).empty());
  EXPECT_FALSE(std::filesystem::exists(folder_ / "traces.db"));
}

TEST_F(SweepTracesTest, WithoutACollectorTheCallersGoesOn) {
  StartAgain(nullptr);
  traces_->Keep("u", kCaller);
  Create();
  EXPECT_EQ(traces_->TraceparentOf("u", 0, 1), loupe::trace::ToTraceparent(kCaller));
  Commit(Start(0));
  Commit(End(0, scheduler::AttemptEnd::kSucceeded));
}

TEST_F(SweepTracesTest, SweepThatIsGoneIsForgotten) {
  traces_->Keep("u", kCaller);
  traces_->Keep("never made", kCaller);
  Create();
  StartAgain(nullptr);
  EXPECT_EQ(traces_->TraceparentOf("u", 0, 1), loupe::trace::ToTraceparent(kCaller));
  EXPECT_EQ(traces_->TraceparentOf("never made", 0, 1), "");
  traces_->Forget("u");
  EXPECT_EQ(traces_->TraceparentOf("u", 0, 1), "");
}

}  // namespace
}  // namespace loupe::coordinator::trace
