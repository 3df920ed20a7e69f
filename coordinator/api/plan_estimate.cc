#include "coordinator/api/plan_estimate.h"

#include <algorithm>
#include <map>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "common/median.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::coordinator::api {
namespace {

// Cells of the plan, evenly spread: their mean stands for all. Sweeps looked back at, and trials of each.
constexpr int64_t kCellsSampled = 200;
constexpr int64_t kSweepsSeen = 20;
constexpr int64_t kTrialsSeen = 200;

constexpr const char* kCostSettings[] = {"base",
                                         "task.kind",
                                         "task.picture_size",
                                         "task.class_images",
                                         "method.kind",
                                         "budget.batch",
                                         "budget.samples",
                                         "train.precision",
                                         "train.accumulation",
                                         "train.gradient_checkpointing",
                                         "train.validate_every",
                                         "sample.steps",
                                         "sample.guidance",
                                         "sample.precision",
                                         "score.every",
                                         "score.prior_samples",
                                         "score.dino",
                                         "score.efficientnet",
                                         "score.inception"};

using Values = std::map<std::string, std::string, std::less<>>;

std::string ValueOf(const settings::Settings& settings, std::string_view key) {
  const Values& values = settings.values();
  const auto found = values.find(key);
  return found == values.end() ? "" : found->second;
}

std::vector<std::string> KindOf(const settings::Settings& settings) {
  std::vector<std::string> kind;
  for (const char* key : kCostSettings) kind.push_back(ValueOf(settings, key));
  return kind;
}

// What a reader knows a kind by.
std::string Named(const settings::Settings& settings) {
  return fmt::format("method {}, task {}, base {}, {} pictures a step, {} samples", ValueOf(settings, "method.kind"),
                     ValueOf(settings, "task.kind"), ValueOf(settings, "base"), ValueOf(settings, "budget.batch"),
                     ValueOf(settings, "budget.samples"));
}

// "cuda:0 NVIDIA H200" → "cuda".
std::string KindOfDevice(std::string_view device) { return std::string(device.substr(0, device.find_first_of(": "))); }

struct Crew {
  int64_t slots = 0;
  std::set<std::string> gpus, device_kinds;
};

absl::StatusOr<Crew> ConnectedCrew(const Backend& backend) {
  return backend.engine->Call<Crew>(
      [](scheduler::Scheduler& scheduler, const scheduler::Now& now, scheduler::Effects&) -> absl::StatusOr<Crew> {
        Crew crew;
        for (const auto& [id, worker] : scheduler.workers().all()) {
          const bool heard = worker.parked || now.monotonic - worker.last_sync < scheduler.options().lease;
          if (!heard || worker.leaving || worker.record.draining) continue;
          const scheduler::WorkerDescription& about = worker.record.description;
          crew.slots += std::max(worker.record.slots, worker.record.pack_slots);
          const std::string kind = KindOfDevice(about.device);
          crew.device_kinds.insert(kind);
          if (kind == "cuda") crew.gpus.insert(about.hostname + " " + about.device);
        }
        return crew;
      });
}

// 0 where nothing is trained.
double StepsOf(const settings::Settings& settings) {
  return settings.Has("budget.steps") ? static_cast<double>(settings.Integer("budget.steps")) : 0;
}

struct Finished {
  double steps = 0;
  double train = 0;
  double rest = 0;
};

struct History {
  std::map<std::vector<std::string>, std::vector<Finished>> of_kind;
  std::set<std::string> sweeps;
  int64_t trials = 0;
};

// Trials of `sweep` that are of one of the plan's kinds and ran on one of the crew's kinds of devices.
absl::Status AddSweep(const Backend& backend, const std::string& id, const std::set<std::vector<std::string>>& kinds,
                      const Crew& crew, History& history) {
  LOUPE_ASSIGN_OR_RETURN(const scheduler::SweepRecord sweep, backend.store->GetSweep(id));
  LOUPE_ASSIGN_OR_RETURN(const std::vector<store::ResultSeconds> results,
                         backend.store->ListResultSeconds(sweep.key, kTrialsSeen));
  if (results.empty()) return absl::OkStatus();
  LOUPE_ASSIGN_OR_RETURN(const std::shared_ptr<const plan::Plan> plan, backend.plans->Get(sweep));
  for (const store::ResultSeconds& result : results) {
    if (!crew.device_kinds.empty() && !result.device.empty() &&
        !crew.device_kinds.contains(KindOfDevice(result.device)))
      continue;
    const settings::Settings settings = plan->CellSettings(scheduler::CellOf(sweep, result.trial));
    std::vector<std::string> kind = KindOf(settings);
    if (!kinds.contains(kind) || result.total <= 0) continue;
    history.of_kind[std::move(kind)].push_back(
        {StepsOf(settings), result.train, std::max(0.0, result.total - result.train)});
    history.sweeps.insert(id);
    ++history.trials;
  }
  return absl::OkStatus();
}

// Of trials with so many steps; `carried` when none had as many.
double SecondsOf(const std::vector<Finished>& finished, double steps, bool& carried) {
  std::vector<double> same, all;
  for (const Finished& one : finished) {
    if (one.steps == steps) same.push_back(one.train + one.rest);
    all.push_back((one.steps > 0 ? one.train * steps / one.steps : one.train) + one.rest);
  }
  carried = carried || same.empty();
  return Median(same.empty() ? all : same);
}

}  // namespace

absl::StatusOr<PlanEstimate> EstimatePlan(const Backend& backend, const plan::Plan& plan) {
  std::vector<settings::Settings> cells;
  std::set<std::vector<std::string>> kinds;
  const int64_t stride = std::max<int64_t>(1, plan.cell_count() / kCellsSampled);
  for (int64_t cell = 0; cell < plan.cell_count(); cell += stride) {
    cells.push_back(plan.CellSettings(cell));
    kinds.insert(KindOf(cells.back()));
  }
  LOUPE_ASSIGN_OR_RETURN(const Crew crew, ConnectedCrew(backend));
  PlanEstimate estimate;
  estimate.gpus = static_cast<int64_t>(crew.gpus.size());
  History history;
  LOUPE_ASSIGN_OR_RETURN(const std::vector<scheduler::SweepRecord> sweeps, backend.store->ListSweeps(0, kSweepsSeen));
  for (const scheduler::SweepRecord& sweep : sweeps) {
    const absl::Status added = AddSweep(backend, sweep.id, kinds, crew, history);
    // Deleted in between, or made by a program whose plans differ: it says nothing of this plan.
    if (!added.ok()) continue;
  }

  bool carried = false;
  double seconds = 0;
  for (const settings::Settings& cell : cells) {
    const auto found = history.of_kind.find(KindOf(cell));
    if (found == history.of_kind.end()) {
      estimate.basis = fmt::format(
          "Unknown: no finished trial of this kind{} ({}).",
          crew.device_kinds.empty() ? "" : fmt::format(" on {}", fmt::join(crew.device_kinds, " or ")), Named(cell));
      return estimate;
    }
    seconds += SecondsOf(found->second, StepsOf(cell), carried);
  }
  if (cells.empty()) return estimate;
  const double each = seconds / static_cast<double>(cells.size());
  estimate.trial_seconds = each * static_cast<double>(plan.trial_count());
  estimate.basis = fmt::format("{:.3g} s a trial: the median of {} finished trials of {}{}", each, history.trials,
                               fmt::join(history.sweeps, ", "),
                               carried ? ", the seconds of their training carried to these steps" : "");
  if (crew.slots == 0) {
    estimate.basis += ". No worker is connected.";
  } else {
    const int64_t at_once = std::min(crew.slots, plan.trial_count());
    estimate.duration = absl::Seconds(estimate.trial_seconds / static_cast<double>(at_once));
    estimate.basis += fmt::format("; {} at once on the workers that are connected.", at_once);
  }
  return estimate;
}

}  // namespace loupe::coordinator::api
