// What workers say of themselves beside their work, as of their latest messages: for people, the page and Prometheus.
//
// It decides nothing, so it is not the scheduler's; it is not stored, since a worker says it again with every message.
// Thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "loupe/v1/worker.pb.h"

namespace loupe::coordinator::engine {

// Sums over all workers since the coordinator's start, those that have gone included.
struct WorkTotals {
  int64_t steps = 0;
  double step_seconds = 0;
  int64_t pictures = 0;
  double picture_seconds = 0;
};

class WorkerTelemetryTable {
 public:
  struct Entry {
    // Not set for a program that is older than it. No number in it is negative, or none at all.
    std::optional<v1::WorkerTelemetry> telemetry;
    std::vector<v1::RunningAttempt> attempts;
  };

  // Of a message of the worker `id`, whose name has been checked.
  void Note(const std::string& id, const v1::SynchronizeRequest& request, absl::Duration now);

  // Nothing for a worker that has not been heard of since the start.
  std::optional<Entry> Of(const std::string& id) const;
  WorkTotals Totals() const;

  // That it remembers: of more workers, those heard of longest ago are forgotten.
  static constexpr size_t kMostWorkers = 10'000;
  static constexpr int kMostAttempts = 64;
  static constexpr int kMostGpus = 64;

 private:
  struct Known {
    Entry entry;
    std::string session;
    // As it said last: what a session has done only grows.
    WorkTotals done;
    absl::Duration heard;
  };

  mutable std::mutex mutex_;
  std::map<std::string, Known> workers_;
  std::set<std::pair<absl::Duration, std::string>> by_heard_;
  WorkTotals totals_;
};

}  // namespace loupe::coordinator::engine
