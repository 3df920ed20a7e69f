#include "coordinator/engine/trial_needs.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "common/settings/settings.h"
#include "coordinator/plan_proto/spec_proto.h"
#include "loupe/v1/sweep.pb.h"

namespace loupe::coordinator::engine {
namespace {

constexpr char kMethodKey[] = "method.kind";
constexpr char kTaskKey[] = "task.kind";
constexpr char kDevicesKey[] = "train.devices";
constexpr size_t kMostClasses = 256;

// Whether cells that differ in this factor's level alone may need different things of a worker, or not fit each other
// as a pack.
bool Matters(const plan::SweepFactor& factor) {
  const settings::SettingRule* rule = settings::FindSettingRule(factor.key);
  // A factor that is no setting sets several.
  if (rule == nullptr || rule->since > 1 || !rule->choices_since.empty() || !rule->may_differ_in_pack) return true;
  if (factor.key == kMethodKey || factor.key == kTaskKey) return true;
  // Newer settings may come with one of its levels.
  return std::any_of(
      settings::SettingRules().begin(), settings::SettingRules().end(),
      [&](const settings::SettingRule& other) { return other.since > 1 && other.condition_key == factor.key; });
}

std::optional<scheduler::SearchRules> SearchOf(const plan::SweepSpec& spec) {
  if (!spec.search) return std::nullopt;
  return scheduler::SearchRules{.curve = spec.search->curve,
                                .smaller_is_better = spec.search->direction != plan::SearchSpec::Direction::kMaximize,
                                .reduction = std::max(2, spec.search->reduction),
                                .min_steps = std::max<int64_t>(1, spec.search->min_steps)};
}

// Of one class for all cells.
void SetOnly(const scheduler::TrialNeeds& of_all, scheduler::SweepNeeds& needs) {
  needs.classes = {of_all};
  // A trial on several devices has its worker to itself.
  if (of_all.devices > 1) needs.pack_of_class = {scheduler::SweepNeeds::kAlone};
}

}  // namespace

scheduler::TrialNeeds NeedsOf(const settings::Settings& settings) {
  return {.settings_version = settings::RequiredSettingsVersion(settings.values()),
          .method = settings.Has(kMethodKey) ? settings.Text(kMethodKey) : "",
          .task = settings.Has(kTaskKey) ? settings.Text(kTaskKey) : "",
          .devices = static_cast<int32_t>(settings.Integer(kDevicesKey))};
}

std::shared_ptr<const scheduler::SweepNeeds> NeedsOf(const plan::Plan& plan) {
  auto needs = std::make_shared<scheduler::SweepNeeds>();
  needs->search = SearchOf(plan.spec());
  if (plan.cell_count() == 0) return needs;
  std::vector<size_t> factors;
  for (size_t f = 0; f < plan.factors().size(); ++f) {
    if (Matters(plan.factors()[f])) factors.push_back(f);
  }
  if (factors.empty()) {
    SetOnly(NeedsOf(plan.CellSettings(0)), *needs);
    return needs;
  }
  needs->classes.clear();
  std::map<std::string, int32_t> packs;
  // Levels of those factors -> place among the classes.
  std::map<std::vector<size_t>, uint8_t> known;
  needs->class_of_cell.resize(static_cast<size_t>(plan.cell_count()));
  std::vector<size_t> levels(factors.size());
  for (int64_t cell = 0; cell < plan.cell_count(); ++cell) {
    for (size_t i = 0; i < factors.size(); ++i) levels[i] = plan.LevelIndex(cell, factors[i]);
    const auto [found, is_new] = known.try_emplace(levels, uint8_t{0});
    if (is_new) {
      const settings::Settings settings = plan.CellSettings(cell);
      const scheduler::TrialNeeds of_cell = NeedsOf(settings);
      const int32_t pack =
          of_cell.devices > 1
              ? scheduler::SweepNeeds::kAlone
              : packs.emplace(settings::PackKey(settings.values()), static_cast<int32_t>(packs.size())).first->second;
      auto& classes = needs->classes;
      size_t at = 0;
      while (at < classes.size() && !(classes[at] == of_cell && needs->pack_of_class[at] == pack)) ++at;
      if (at == kMostClasses) {
        scheduler::TrialNeeds& last = classes[--at];
        last = {.settings_version = std::max(last.settings_version, of_cell.settings_version),
                .devices = std::max(last.devices, of_cell.devices)};
        needs->pack_of_class[at] = scheduler::SweepNeeds::kAlone;
      } else if (at == classes.size()) {
        classes.push_back(of_cell);
        needs->pack_of_class.push_back(pack);
      }
      found->second = static_cast<uint8_t>(at);
    }
    needs->class_of_cell[static_cast<size_t>(cell)] = found->second;
  }
  if (needs->classes.size() == 1) needs->class_of_cell.clear();
  return needs;
}

std::shared_ptr<const scheduler::SweepNeeds> NeedsOf(PlanCache& plans, const scheduler::SweepRecord& sweep) {
  v1::SweepSpec proto;
  if (!proto.ParseFromString(sweep.spec)) return nullptr;
  const absl::StatusOr<plan::SweepSpec> spec = plan_proto::StoredSpecFromProto(proto);
  if (!spec.ok()) return nullptr;
  if (spec->methods.empty() && std::none_of(spec->factors.begin(), spec->factors.end(), Matters)) {
    // One cell stands for all: its settings, or where they alone are no trial's, those of the plan.
    std::map<std::string, std::string> values = spec->settings;
    for (const plan::SweepFactor& factor : spec->factors) values[factor.key] = factor.levels.front();
    if (const absl::StatusOr<settings::Settings> settings = settings::Settings::Create(values, spec->defaults);
        settings.ok()) {
      auto needs = std::make_shared<scheduler::SweepNeeds>();
      needs->search = SearchOf(*spec);
      SetOnly(NeedsOf(*settings), *needs);
      return needs;
    }
  }
  const absl::StatusOr<std::shared_ptr<const plan::Plan>> plan = plans.Get(sweep);
  return plan.ok() ? NeedsOf(**plan) : nullptr;
}

}  // namespace loupe::coordinator::engine
