// Of which traces sweeps are, and the spans of their attempts, from lease to result.
//
// The context that the caller of CreateSweep sent is kept in a database of its own, DATA/traces.db, as long as the
// sweep: attempts go on under it after a restart. The span of an attempt has an id that follows from the attempt, so
// that nothing else has to be kept. Traces decide nothing: a database that cannot be written costs them alone.
// Thread-safe.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "common/trace/span_exporter.h"
#include "common/trace/trace_context.h"
#include "coordinator/scheduler/effects.h"
#include "coordinator/store/sqlite_db.h"
#include "coordinator/store/store_reader.h"

namespace loupe::coordinator::trace {

// In the data folder once a sweep has a trace; no part of a backup.
inline constexpr char kTracesFile[] = "/traces.db";

class SweepTraces {
 public:
  // `exporter` null: the coordinator makes no spans, and workers go on under the caller's. It outlives this. Forgets
  // sweeps that `store` does not have.
  SweepTraces(std::string path, store::StoreReader& store, loupe::trace::SpanExporter* exporter);

  // Before the sweep is made: its trials may be leased at once. Not sampled: nothing is kept.
  void Keep(const std::string& sweep_uid, const loupe::trace::TraceContext& context);
  // It was not made after all.
  void Forget(const std::string& sweep_uid);
  // For the worker that is to run the attempt; empty where the sweep has no trace.
  std::string TraceparentOf(const std::string& sweep_uid, int64_t trial, int64_t epoch) const;
  // `committed` is durable. On the engine's thread: quick.
  void Note(const scheduler::Effects& committed);

 private:
  struct Running {
    int64_t epoch = 0;
    std::string worker;
    absl::Time start;
  };
  struct TracedSweep {
    std::string id;
    std::string uid;
    loupe::trace::TraceContext context;
  };

  absl::Status Open();
  absl::Status Load(store::StoreReader& store);
  void NoteSweep(const scheduler::SweepRecord& sweep);
  void End(const scheduler::EndAttempt& end);

  const std::string path_;
  loupe::trace::SpanExporter* const exporter_;
  mutable std::mutex mutex_;
  std::unique_ptr<store::SqliteDb> db_;
  // By the sweep's uid.
  std::map<std::string, loupe::trace::TraceContext> contexts_;
  std::map<scheduler::SweepKey, TracedSweep> sweeps_;
  std::map<scheduler::TrialKey, Running> running_;
};

}  // namespace loupe::coordinator::trace
