// Spans to an OpenTelemetry collector: OTLP over HTTP, as JSON (opentelemetry.io/docs/specs/otlp).
//
// Law: tracing holds nothing up. Add puts a span into a bounded queue and returns; a thread of its own sends what is
// there. What does not fit, and what no collector takes, is dropped and counted. Off unless it is asked for.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/http_post.h"

namespace loupe::trace {

// OTLP's numbers.
enum class SpanKind { kInternal = 1, kServer = 2, kClient = 3 };

struct Span {
  std::string trace_id;
  std::string span_id;
  // Empty: the trace begins with it.
  std::string parent_id;
  std::string name;
  SpanKind kind = SpanKind::kInternal;
  absl::Time start;
  absl::Time end;
  std::vector<std::pair<std::string, std::variant<std::string, int64_t, double>>> attributes;
  // Not empty: it failed, and why.
  std::string error;
};

struct SpanExporterOptions {
  // "http://localhost:4318", to which "/v1/traces" is added. As an option of a program, or empty.
  std::string endpoint;
  // Of the resource, unless OTEL_SERVICE_NAME says otherwise.
  std::string service;
  std::string version;
  // Spans that wait, and that go in one message.
  size_t most_waiting = 4096;
  size_t most_sent = 512;
  // How long spans may wait for others.
  absl::Duration interval = absl::Seconds(1);
  absl::Duration timeout = absl::Seconds(5);
  // At the end, for what waits still.
  absl::Duration last_timeout = absl::Seconds(2);
  // A collector that takes nothing is logged, and that it does again.
  bool logs = true;
};

// Thread-safe.
class SpanExporter {
 public:
  // Takes OTEL_EXPORTER_OTLP_ENDPOINT where there is no endpoint, OTEL_EXPORTER_OTLP_HEADERS ("name=value,…", values
  // percent-encoded) and OTEL_SERVICE_NAME. Null where nobody asks, or OTEL_SDK_DISABLED is true. INVALID_ARGUMENT for
  // what is no URL or no header.
  static absl::StatusOr<std::unique_ptr<SpanExporter>> Start(SpanExporterOptions options);
  // Whether Start would start one.
  static bool IsAsked(const std::string& endpoint);
  // Finish.
  ~SpanExporter();
  // Sends what waits, for as long as last_timeout; what is added later is never sent.
  void Finish();

  void Add(Span span);
  int64_t sent() const { return sent_; }
  int64_t dropped() const { return dropped_; }

 private:
  SpanExporter(SpanExporterOptions options, HttpPost post);
  void Loop();
  void Send(const std::vector<Span>& spans, bool last);

  const SpanExporterOptions options_;
  HttpPost post_;
  std::atomic<int64_t> sent_{0};
  std::atomic<int64_t> dropped_{0};
  // Of the thread below: trouble is said once, and that it is over.
  bool failing_ = false;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Span> queue_;
  bool stopping_ = false;
  std::thread thread_;
};

// An ExportTraceServiceRequest in OTLP's JSON: ids in hexadecimal, enums as numbers, 64-bit integers as strings.
std::string ToOtlpJson(const std::vector<Span>& spans, const std::string& service, const std::string& version);

}  // namespace loupe::trace
