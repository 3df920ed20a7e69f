// The plans of stored sweeps, made once each from their specifications.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/statusor.h"
#include "coordinator/plan/plan.h"
#include "coordinator/scheduler/model.h"

namespace loupe::coordinator {

// Thread-safe. Keeps the plans of the sweeps used last.
class PlanCache {
 public:
  // INTERNAL when the stored specification no longer makes a plan of the stored size (a newer program's plan differs).
  absl::StatusOr<std::shared_ptr<const Plan>> Get(const SweepRecord& sweep);
  // nullptr when it is not kept now.
  std::shared_ptr<const Plan> Find(const std::string& uid);
  // Spares the first Get after creation.
  void Put(const std::string& uid, std::shared_ptr<const Plan> plan);

 private:
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<const Plan>> plans_;
  std::deque<std::string> oldest_first_;
};

}  // namespace loupe::coordinator
