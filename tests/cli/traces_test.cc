// One trace from the command to the worker's phases: real programs, and a collector that keeps what it is sent.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "absl/time/clock.h"
#include "fmt/format.h"
#include "tests/cli/up_fixture.h"
#include "tests/testing/http_receiver.h"

namespace loupe::cli {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr char kOneTrial[] = R"(
name: traced-sweep
base: b
scorer: s
task: {images: i, instance_prompt: a photo of sks, class_prompt: a photo of cat face}
method: {width: 8, output: FFN_in}
factors: {input: [SA_in]}
replicates: 1
budget: {steps: 5}
)";

struct SentSpan {
  std::string service;
  json span;
};

class TracesTest : public UpTest {
 protected:
  static void SetUpTestSuite() {
    collector_ = std::make_unique<testing::HttpReceiver>();
    ::setenv("OTEL_EXPORTER_OTLP_ENDPOINT", Endpoint().c_str(), 1);
    UpTest::SetUpTestSuite();
    ::unsetenv("OTEL_EXPORTER_OTLP_ENDPOINT");
  }
  static void TearDownTestSuite() {
    UpTest::TearDownTestSuite();
    collector_.reset();
  }
  static std::string Endpoint() { return fmt::format("http://127.0.0.1:{}", collector_->port()); }

  // All spans so far, by their ids.
  static std::map<std::string, SentSpan> Spans() {
    std::map<std::string, SentSpan> spans;
    for (const testing::ReceivedPost& post : collector_->Wait(0, absl::ZeroDuration())) {
      EXPECT_EQ(post.target, "/v1/traces");
      const json resource = json::parse(post.body)["resourceSpans"][0];
      for (const json& span : resource["scopeSpans"][0]["spans"])
        spans[span["spanId"]] = {resource["resource"]["attributes"][0]["value"]["stringValue"], span};
    }
    return spans;
  }
  // Until a span of that name of that trace (empty: of any) has come.
  static std::map<std::string, SentSpan> Await(const std::string& name, const std::string& trace) {
    for (int i = 0; i < 600; ++i) {
      auto spans = Spans();
      for (const auto& [id, sent] : spans) {
        if (sent.span["name"] == name && (trace.empty() || sent.span["traceId"] == trace)) return spans;
      }
      absl::SleepFor(absl::Milliseconds(50));
    }
    ADD_FAILURE() << "no span " << name;
    return Spans();
  }
  static const SentSpan* Named(const std::map<std::string, SentSpan>& spans, const std::string& name,
                               const std::string& trace) {
    for (const auto& [id, sent] : spans) {
      if (sent.span["name"] == name && sent.span["traceId"] == trace) return &sent;
    }
    return nullptr;
  }

  static std::unique_ptr<testing::HttpReceiver> collector_;
};
std::unique_ptr<testing::HttpReceiver> TracesTest::collector_;

TEST_F(TracesTest, CommandCallAttemptAndPhasesAreOne) {
  const std::string file = folder_->Write("one.yaml", kOneTrial);
  const ProcessResult submitted =
      RunProcess(folder_->path() + "/loupe",
                 {"--otlp-endpoint", Endpoint(), "submit", file, "--watch", "--data", Data()}, folder_->path());
  ASSERT_EQ(submitted.exit_code, 0) << submitted.err;
  const std::string trace = [&] {
    for (const auto& [id, sent] : Await("loupe submit", "")) {
      if (sent.span["name"] == "loupe submit") return sent.span["traceId"].get<std::string>();
    }
    return std::string();
  }();
  Await("attempt", trace);
  const auto spans = Await("run", trace);
  const SentSpan* command = Named(spans, "loupe submit", trace);
  const SentSpan* call = Named(spans, "loupe.v1.SweepService/CreateSweep", trace);
  const SentSpan* attempt = Named(spans, "attempt", trace);
  const SentSpan* run = Named(spans, "run", trace);
  const SentSpan* train = Named(spans, "train", trace);
  ASSERT_TRUE(command && call && attempt && run && train);
  EXPECT_EQ(command->service, "loupe");
  EXPECT_FALSE(command->span.contains("parentSpanId"));
  EXPECT_EQ(call->service, "loupe-coordinator");
  EXPECT_EQ(call->span["kind"], 2);
  EXPECT_EQ(call->span["parentSpanId"], command->span["spanId"]);
  EXPECT_EQ(attempt->service, "loupe-coordinator");
  EXPECT_EQ(attempt->span["parentSpanId"], command->span["spanId"]);
  EXPECT_THAT(attempt->span["attributes"].dump(), HasSubstr("succeeded"));
  EXPECT_EQ(run->service, "loupe-worker");
  EXPECT_EQ(run->span["parentSpanId"], attempt->span["spanId"]);
  EXPECT_EQ(train->span["parentSpanId"], run->span["spanId"]);
  EXPECT_THAT(train->span["attributes"].dump(), HasSubstr("/trials/0"));
  // Whatever came under this trace has its parent here.
  for (const auto& [id, sent] : spans) {
    if (sent.span["traceId"] == trace && sent.span.contains("parentSpanId")) {
      EXPECT_TRUE(spans.contains(sent.span["parentSpanId"])) << sent.span;
    }
  }
}

TEST_F(TracesTest, CallersTraceIsTakenOver) {
  constexpr char kCaller[] = "4bf92f3577b34da6a3ce929d0e0e4736";
  const ProcessResult listed = RunProcess(folder_->path() + "/loupe", {"sweeps", "--data", Data()}, folder_->path(),
                                          {{"TRACEPARENT", fmt::format("00-{}-00f067aa0ba902b7-01", kCaller)}});
  ASSERT_EQ(listed.exit_code, 0) << listed.err;
  const auto spans = Await("loupe.v1.SweepService/ListSweeps", kCaller);
  // The command has no collector, and no span in between.
  EXPECT_EQ(Named(spans, "loupe.v1.SweepService/ListSweeps", kCaller)->span["parentSpanId"], "00f067aa0ba902b7");
  EXPECT_EQ(Named(spans, "loupe sweeps", kCaller), nullptr);
}

TEST_F(TracesTest, DeadCollectorCostsALineAlone) {
  const ProcessResult listed = RunProcess(folder_->path() + "/loupe", {"workers", "--format", "json", "--data", Data()},
                                          folder_->path(), {{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"}});
  EXPECT_EQ(listed.exit_code, 0);
  EXPECT_TRUE(json::accept(listed.out)) << listed.out;
  EXPECT_THAT(listed.err, HasSubstr("no collector"));
}

TEST_F(TracesTest, NobodyAsksNobodyIsTraced) {
  for (const char* traceparent : {"", "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
                                  "00-11112222333344445555666677778888-00f067aa0ba902b7-00"}) {
    EXPECT_EQ(RunProcess(folder_->path() + "/loupe", {"pause", "no-such-sweep", "--data", Data()}, folder_->path(),
                         {{"TRACEPARENT", traceparent}})
                  .exit_code,
              1);
  }
  // One that is asked for afterwards comes alone.
  constexpr char kAsked[] = "0af7651916cd43dd8448eb211c80319c";
  EXPECT_EQ(RunProcess(folder_->path() + "/loupe", {"sweeps", "--data", Data()}, folder_->path(),
                       {{"TRACEPARENT", fmt::format("00-{}-00f067aa0ba902b7-01", kAsked)}})
                .exit_code,
            0);
  for (const auto& [id, sent] : Await("loupe.v1.SweepService/ListSweeps", kAsked)) {
    EXPECT_NE(sent.span["name"], "loupe.v1.SweepService/PauseSweep");
  }
}

}  // namespace
}  // namespace loupe::cli
