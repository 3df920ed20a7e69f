#include "coordinator/engine/plan_cache.h"

#include <algorithm>
#include <utility>

#include "common/status_macros.h"
#include "coordinator/engine/levels_json.h"
#include "coordinator/plan_proto/spec_proto.h"
#include "fmt/format.h"
#include "loupe/v1/sweep.pb.h"

namespace loupe::coordinator::engine {
namespace {

// 8 bytes a cell, and some kilobytes a plan.
constexpr int64_t kMaxCells = 4'000'000;
constexpr size_t kMaxPlans = 1000;

absl::StatusOr<std::shared_ptr<const plan::Plan>> MakePlan(const scheduler::SweepRecord& sweep) {
  v1::SweepSpec proto;
  if (!proto.ParseFromString(sweep.spec)) {
    return absl::DataLossError(fmt::format("the stored specification of sweep '{}' cannot be read", sweep.id));
  }
  LOUPE_ASSIGN_OR_RETURN(plan::SweepSpec spec, plan_proto::StoredSpecFromProto(proto));
  LOUPE_ASSIGN_OR_RETURN(plan::Plan plan, plan::Plan::Create(std::move(spec)));
  if (plan.cell_count() != sweep.cells || plan.trial_count() != sweep.trials()) {
    return absl::InternalError(
        fmt::format("sweep '{}' was stored with {} cells, but this program plans {}: use the version of "
                    "Loupe that created it",
                    sweep.id, sweep.cells, plan.cell_count()));
  }
  return std::make_shared<const plan::Plan>(std::move(plan));
}

}  // namespace

std::shared_ptr<const plan::Plan> PlanCache::Find(const std::string& uid) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = plans_.find(uid);
  if (found == plans_.end()) return nullptr;
  oldest_first_.splice(oldest_first_.end(), oldest_first_, found->second.use);
  return found->second.plan;
}

bool PlanCache::Knows(const std::string& sweep_id) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return uids_.contains(sweep_id);
}

absl::StatusOr<std::shared_ptr<const plan::Plan>> PlanCache::Get(const scheduler::SweepRecord& sweep) {
  if (std::shared_ptr<const plan::Plan> known = Find(sweep.uid)) return known;
  LOUPE_ASSIGN_OR_RETURN(std::shared_ptr<const plan::Plan> plan, MakePlan(sweep));
  Put(sweep, plan);
  return plan;
}

void PlanCache::Put(const scheduler::SweepRecord& sweep, std::shared_ptr<const plan::Plan> plan) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (plans_.contains(sweep.uid)) return;
  cells_ += plan->cell_count();
  oldest_first_.push_back(sweep.uid);
  plans_[sweep.uid] = {sweep.id, std::move(plan), std::prev(oldest_first_.end())};
  uids_[sweep.id] = sweep.uid;
  while (plans_.size() > 1 && (cells_ > kMaxCells || plans_.size() > kMaxPlans)) DropOldest();
}

void PlanCache::DropOldest() {
  const auto oldest = plans_.find(oldest_first_.front());
  cells_ -= oldest->second.plan->cell_count();
  // A later sweep may have the name.
  if (const auto uid = uids_.find(oldest->second.sweep_id); uid != uids_.end() && uid->second == oldest->first)
    uids_.erase(uid);
  plans_.erase(oldest);
  oldest_first_.pop_front();
}

absl::StatusOr<std::vector<bool>> MatchingCells(const plan::Plan& plan,
                                                const std::map<std::string, std::string>& wanted) {
  // (factor, index of the level)
  std::vector<std::pair<size_t, size_t>> levels;
  bool possible = true;
  for (const auto& [name, level] : wanted) {
    size_t factor = 0;
    while (factor < plan.factors().size() && plan.FactorName(factor) != name) ++factor;
    if (factor == plan.factors().size())
      return absl::InvalidArgumentError(fmt::format("the sweep has no factor '{}'", name));
    const std::vector<std::string>& known = plan.factors()[factor].levels;
    const auto found = std::find(known.begin(), known.end(), level);
    possible = possible && found != known.end();
    levels.emplace_back(factor, static_cast<size_t>(found - known.begin()));
  }
  std::vector<bool> matching(static_cast<size_t>(plan.cell_count()), false);
  for (int64_t cell = 0; possible && cell < plan.cell_count(); ++cell) {
    matching[static_cast<size_t>(cell)] = std::all_of(levels.begin(), levels.end(), [&](const auto& level) {
      return plan.LevelIndex(cell, level.first) == level.second;
    });
  }
  return matching;
}

absl::StatusOr<scheduler::CellFunctions> CellsForJob(PlanCache& plans, const scheduler::SweepRecord& sweep) {
  LOUPE_ASSIGN_OR_RETURN(const std::shared_ptr<const plan::Plan> plan, plans.Get(sweep));
  scheduler::CellFunctions cells{[plan](int64_t cell) { return LevelsJson(plan->CellLevels(cell)); }, nullptr};
  if (!sweep.job->cell_filter.empty()) {
    LOUPE_ASSIGN_OR_RETURN(std::vector<bool> matching, MatchingCells(*plan, ParseLevels(sweep.job->cell_filter)));
    cells.matches = [matching = std::move(matching)](int64_t cell) { return matching[static_cast<size_t>(cell)]; };
  }
  return cells;
}

}  // namespace loupe::coordinator::engine
