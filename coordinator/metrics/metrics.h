// The coordinator's metrics for Prometheus: what is counted as it happens, and what is looked at when somebody asks.
//
// Names and units as prometheus.io/docs/practices/naming has them: base units, `_total` for counters, and no label
// whose values grow with the number of sweeps, trials or users. Workers have series of their own as long as they are
// few (kMostWorkersShown). docs/http.md lists them.
#pragma once

#include <prometheus/histogram.h>

#include <atomic>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/trace/span_exporter.h"
#include "coordinator/access/open_calls.h"
#include "coordinator/engine/engine_thread.h"
#include "coordinator/engine/worker_telemetry.h"
#include "coordinator/store/store_reader.h"

namespace loupe::coordinator::metrics {

struct MetricsDeps {
  engine::EngineThread* engine;
  store::StoreReader* store;
  const access::OpenCalls* calls;
  const engine::WorkerTelemetryTable* telemetry;
  // Null: there are none.
  const loupe::trace::SpanExporter* spans;
  // The database's file; beside it lies its log.
  std::string database;
  std::string version;
};

// Connected workers with series of their own: the first by name.
inline constexpr size_t kMostWorkersShown = 200;

// Thread-safe.
class Metrics {
 public:
  Metrics();

  // A batch is durable; `took` is the store's part of it. On the engine's thread.
  void NoteCommit(const scheduler::Effects& committed, absl::Duration took);

  // Prometheus' text format, version 0.0.4. Waits for the engine and the store; the store's error, or UNAVAILABLE.
  absl::StatusOr<std::string> Text(const MetricsDeps& deps);

 private:
  prometheus::Histogram commit_seconds_;
  prometheus::Histogram commit_effects_;
  // By outcome: succeeded, failed, lost, stopped.
  std::atomic<int64_t> attempts_ended_[5] = {};
};

}  // namespace loupe::coordinator::metrics
