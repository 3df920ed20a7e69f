#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "absl/time/clock.h"
#include "common/trace/span_exporter.h"
#include "common/trace/trace_context.h"
#include "fmt/format.h"
#include "tests/testing/http_receiver.h"

namespace loupe {
namespace {

using nlohmann::json;

constexpr char kTrace[] = "4bf92f3577b34da6a3ce929d0e0e4736";
constexpr char kSpan[] = "00f067aa0ba902b7";

// The example and the rules of W3C Trace Context, section 3.2.
TEST(TraceparentTest, IsReadAsTheStandardSays) {
  const auto read = trace::ParseTraceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
  ASSERT_TRUE(read);
  EXPECT_EQ(read->trace_id, kTrace);
  EXPECT_EQ(read->span_id, kSpan);
  EXPECT_TRUE(read->sampled);
  EXPECT_EQ(trace::ToTraceparent(*read), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
  // Only the last bit says so.
  EXPECT_FALSE(trace::ParseTraceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-fe")->sampled);
  EXPECT_TRUE(trace::ParseTraceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03")->sampled);
  // Versions to come may say more.
  EXPECT_TRUE(trace::ParseTraceparent("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
  EXPECT_TRUE(trace::ParseTraceparent("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what"));
}

TEST(TraceparentTest, WhatIsNoneBeginsAnother) {
  for (const char* text : {"", "00", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                           "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what",
                           "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.what",
                           "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
                           "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
                           "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
                           "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",
                           "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
                           "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                           "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
                           " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}) {
    EXPECT_FALSE(trace::ParseTraceparent(text)) << text;
  }
  const trace::TraceContext begun = trace::NewTrace();
  EXPECT_TRUE(trace::ParseTraceparent(trace::ToTraceparent(begun)));
  EXPECT_NE(trace::NewTrace().trace_id, begun.trace_id);
}

trace::Span ASpan() {
  return {.trace_id = kTrace,
          .span_id = kSpan,
          .parent_id = "",
          .name = "train",
          .start = absl::FromUnixNanos(1'800'000'000'000'000'001),
          .end = absl::FromUnixNanos(1'800'000'000'000'000'003),
          .attributes = {{"loupe.steps", int64_t{5}}, {"loupe.trial", "sweeps/a/trials/0"}},
          .error = ""};
}

// OTLP's JSON mapping (opentelemetry-proto, docs/specification.md): hexadecimal ids, numbers for enums, strings for
// 64-bit integers.
TEST(OtlpTest, JsonIsOtlps) {
  trace::Span failed = ASpan();
  failed.parent_id = "00f067aa0ba902b8";
  failed.error = "the loss is NaN";
  const json message = json::parse(trace::ToOtlpJson({ASpan(), failed}, "loupe-worker", "1.0"));
  const json& resource = message["resourceSpans"][0];
  EXPECT_EQ(resource["resource"]["attributes"][0],
            json::parse(R"({"key": "service.name", "value": {"stringValue": "loupe-worker"}})"));
  EXPECT_EQ(resource["scopeSpans"][0]["spans"][0], json::parse(R"({
      "traceId": "4bf92f3577b34da6a3ce929d0e0e4736", "spanId": "00f067aa0ba902b7", "name": "train", "kind": 1,
      "startTimeUnixNano": "1800000000000000001", "endTimeUnixNano": "1800000000000000003", "flags": 1,
      "attributes": [{"key": "loupe.steps", "value": {"intValue": "5"}},
                     {"key": "loupe.trial", "value": {"stringValue": "sweeps/a/trials/0"}}]})"));
  const json& second = resource["scopeSpans"][0]["spans"][1];
  EXPECT_EQ(second["parentSpanId"], "00f067aa0ba902b8");
  EXPECT_EQ(second["status"], json::parse(R"({"code": 2, "message": "the loss is NaN"})"));
}

class SpanExporterTest : public ::testing::Test {
 protected:
  void TearDown() override {
    for (const char* name :
         {"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_SERVICE_NAME", "OTEL_SDK_DISABLED"})
      ::unsetenv(name);
  }
  trace::SpanExporterOptions options_{
      .endpoint = "", .service = "loupe", .version = "1", .interval = absl::Milliseconds(1)};
};

TEST_F(SpanExporterTest, NobodyAskedNothingIsSent) {
  EXPECT_EQ(*trace::SpanExporter::Start(options_), nullptr);
  ::setenv("OTEL_SDK_DISABLED", "true", 1);
  options_.endpoint = "http://127.0.0.1:1";
  EXPECT_EQ(*trace::SpanExporter::Start(options_), nullptr);
}

TEST_F(SpanExporterTest, EnvironmentIsTheStandards) {
  testing::HttpReceiver receiver({503});
  ::setenv("OTEL_EXPORTER_OTLP_ENDPOINT", fmt::format("http://127.0.0.1:{}/otlp", receiver.port()).c_str(), 1);
  ::setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b, tenant=x", 1);
  ::setenv("OTEL_SERVICE_NAME", "mine", 1);
  const auto exporter = trace::SpanExporter::Start(options_);
  ASSERT_TRUE(exporter.ok()) << exporter.status();
  (*exporter)->Add(ASpan());
  // A collector without room for now is asked again.
  const auto posts = receiver.Wait(2);
  ASSERT_EQ(posts.size(), 2U);
  EXPECT_EQ(posts[1].target, "/otlp/v1/traces");
  EXPECT_EQ(posts[1].headers.at("content-type"), "application/json");
  EXPECT_EQ(posts[1].headers.at("api-key"), "a b");
  EXPECT_EQ(posts[1].headers.at("tenant"), "x");
  EXPECT_THAT(posts[1].body, ::testing::HasSubstr("\"mine\""));
}

TEST_F(SpanExporterTest, WrongSettingsAreRefused) {
  options_.endpoint = "localhost:4318";
  EXPECT_TRUE(absl::IsInvalidArgument(trace::SpanExporter::Start(options_).status()));
  options_.endpoint = "http://localhost:4318";
  for (const char* headers : {"api-key", "=x", "a b=c", "a=%2", "a=%0d%0ax"}) {
    ::setenv("OTEL_EXPORTER_OTLP_HEADERS", headers, 1);
    EXPECT_TRUE(absl::IsInvalidArgument(trace::SpanExporter::Start(options_).status())) << headers;
  }
}

TEST_F(SpanExporterTest, CollectorThatHangsHoldsUpNobody) {
  const testing::SilentListener silent;
  options_.endpoint = fmt::format("http://127.0.0.1:{}", silent.port());
  options_.most_waiting = 4;
  options_.timeout = options_.last_timeout = absl::Milliseconds(100);
  auto exporter = *trace::SpanExporter::Start(options_);
  for (int i = 0; i < 1000; ++i) exporter->Add(ASpan());
  EXPECT_GE(exporter->dropped(), 1000 - 2 * 4);
  EXPECT_EQ(exporter->sent(), 0);
}

}  // namespace
}  // namespace loupe
