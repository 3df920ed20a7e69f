// The plans of stored sweeps, made once each from their specifications.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/statusor.h"
#include "coordinator/plan/plan.h"
#include "coordinator/scheduler/scheduler.h"

namespace loupe::coordinator::engine {

// Thread-safe. Keeps the plans of the sweeps used last, as far as there is room. To make a plan of a million cells
// takes a second: the engine's thread only asks for those that are at hand (Find, Knows).
class PlanCache {
 public:
  // INTERNAL when the stored specification no longer makes a plan of the stored size (a newer program's plan differs).
  absl::StatusOr<std::shared_ptr<const plan::Plan>> Get(const scheduler::SweepRecord& sweep);
  // nullptr when it is not kept now.
  std::shared_ptr<const plan::Plan> Find(const std::string& uid);
  // Whether the plan of the sweep of this name is at hand.
  bool Knows(const std::string& sweep_id);
  // Spares the first Get after creation.
  void Put(const scheduler::SweepRecord& sweep, std::shared_ptr<const plan::Plan> plan);

 private:
  struct Entry {
    std::string sweep_id;
    std::shared_ptr<const plan::Plan> plan;
    std::list<std::string>::iterator use;
  };
  void DropOldest();

  std::mutex mutex_;
  std::map<std::string, Entry> plans_;
  std::map<std::string, std::string> uids_;
  // Their uids.
  std::list<std::string> oldest_first_;
  int64_t cells_ = 0;
};

// The cells that have all the `wanted` levels (factor's last part -> level). INVALID_ARGUMENT names a factor that is
// none.
absl::StatusOr<std::vector<bool>> MatchingCells(const plan::Plan& plan,
                                                const std::map<std::string, std::string>& wanted);

// For the sweep's job (Engine::Deps::cells); its cell_filter is the JSON of the wanted levels.
absl::StatusOr<scheduler::CellFunctions> CellsForJob(PlanCache& plans, const scheduler::SweepRecord& sweep);

}  // namespace loupe::coordinator::engine
