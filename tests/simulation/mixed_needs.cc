#include "tests/simulation/mixed_needs.h"

#include <set>
#include <utility>

namespace loupe::simulation {
namespace {

// Two cells in five are of a method that only newer workers run; one of them fits the others as a pack, and one fits
// none.
const std::shared_ptr<const coordinator::scheduler::SweepNeeds>& MixedNeeds() {
  static const auto needs = std::make_shared<const coordinator::scheduler::SweepNeeds>(
      coordinator::scheduler::SweepNeeds{.classes = {{.method = "adapter"},
                                                     {.settings_version = 2, .method = "lora"},
                                                     {.settings_version = 2, .method = "lora"}},
                                         .class_of_cell = {0, 1, 0, 2, 0},
                                         .pack_of_class = {0, 1, 0}});
  return needs;
}

}  // namespace

absl::StatusOr<coordinator::scheduler::CellFunctions> CellsOf(const coordinator::scheduler::SweepRecord& sweep) {
  coordinator::scheduler::CellFunctions cells{[](int64_t) { return "{}"; }, nullptr};
  if (!sweep.job->cell_filter.empty()) {
    cells.matches = [wanted = std::stoll(sweep.job->cell_filter)](int64_t cell) { return cell == wanted; };
  }
  return cells;
}

const std::shared_ptr<const coordinator::scheduler::SweepNeeds>& NeedsOfSweep(const std::string& id) {
  static const auto search = [] {
    auto needs = std::make_shared<coordinator::scheduler::SweepNeeds>(*MixedNeeds());
    needs->search =
        coordinator::scheduler::SearchRules{.curve = "loss", .smaller_is_better = true, .reduction = 2, .min_steps = 1};
    return std::shared_ptr<const coordinator::scheduler::SweepNeeds>(std::move(needs));
  }();
  return id == "side" ? search : MixedNeeds();
}

std::shared_ptr<const coordinator::scheduler::SweepNeeds> NeedsOf(const coordinator::scheduler::SweepRecord& sweep) {
  return sweep.id.starts_with("brief") ? nullptr : NeedsOfSweep(sweep.id);
}

coordinator::scheduler::WorkerAbilities AbilitiesOf(int index, int session) {
  coordinator::scheduler::WorkerAbilities abilities;
  if (index == 0 || (index == 2 && session % 2 == 1)) return abilities;
  abilities.settings_version = 2;
  abilities.methods = index == 1 ? std::set<std::string>{"lora"} : std::set<std::string>{"adapter", "lora"};
  return abilities;
}

int32_t MostTogether(int index) { return index == 0 ? 0 : index + 2; }

}  // namespace loupe::simulation
