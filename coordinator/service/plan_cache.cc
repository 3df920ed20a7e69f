#include "coordinator/service/plan_cache.h"

#include <utility>

#include "common/status_macros.h"
#include "coordinator/plan_proto/spec_proto.h"
#include "fmt/format.h"
#include "loupe/v1/sweep.pb.h"

namespace loupe::coordinator {
namespace {

constexpr size_t kMaxPlans = 64;

absl::StatusOr<std::shared_ptr<const Plan>> MakePlan(const SweepRecord& sweep) {
  v1::SweepSpec proto;
  if (!proto.ParseFromString(sweep.spec)) {
    return absl::DataLossError(fmt::format("the stored specification of sweep '{}' cannot be read", sweep.id));
  }
  LOUPE_ASSIGN_OR_RETURN(SweepSpec spec, SpecFromProto(proto));
  LOUPE_ASSIGN_OR_RETURN(Plan plan, Plan::Create(std::move(spec)));
  if (plan.cell_count() != sweep.cells || plan.trial_count() != sweep.trials()) {
    return absl::InternalError(fmt::format("sweep '{}' was stored with {} cells, but this program plans {}: use the version of "
                                           "Loupe that created it",
                                           sweep.id, sweep.cells, plan.cell_count()));
  }
  return std::make_shared<const Plan>(std::move(plan));
}

}  // namespace

std::shared_ptr<const Plan> PlanCache::Find(const std::string& uid) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = plans_.find(uid);
  return found == plans_.end() ? nullptr : found->second;
}

absl::StatusOr<std::shared_ptr<const Plan>> PlanCache::Get(const SweepRecord& sweep) {
  if (std::shared_ptr<const Plan> known = Find(sweep.uid)) return known;
  LOUPE_ASSIGN_OR_RETURN(std::shared_ptr<const Plan> plan, MakePlan(sweep));
  Put(sweep.uid, plan);
  return plan;
}

void PlanCache::Put(const std::string& uid, std::shared_ptr<const Plan> plan) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!plans_.emplace(uid, std::move(plan)).second) return;
  oldest_first_.push_back(uid);
  if (oldest_first_.size() <= kMaxPlans) return;
  plans_.erase(oldest_first_.front());
  oldest_first_.pop_front();
}

}  // namespace loupe::coordinator
