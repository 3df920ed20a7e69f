#include "worker/tasks/task_registry.h"

#include <algorithm>
#include <utility>

#include "fmt/format.h"
#include "worker/base/file_stamp.h"
#include "worker/base/picture_networks.h"
#include "worker/runtime/user_error.h"
#include "worker/tasks/class_conditional.h"
#include "worker/tasks/dreambooth.h"
#include "worker/tasks/finetune.h"

namespace loupe::worker::tasks {
namespace {

using MakeTask = std::unique_ptr<const Task> (*)(const settings::Settings&, uint64_t sweep_seed, SharedInputs&,
                                                 const sampling::SampleProgress&);

// One line per task.
const std::map<std::string, MakeTask>& TaskMakers() {
  static const std::map<std::string, MakeTask> makers = {
      {"classes", MakeClassConditionalTask},
      {"dreambooth", MakeDreamBoothTask},
      {"finetune", MakeFinetuneTask},
  };
  return makers;
}

}  // namespace

std::vector<std::string> TaskNames() {
  std::vector<std::string> names;
  for (const auto& [name, make] : TaskMakers()) names.push_back(name);
  return names;
}

const Task& Tasks::Of(const settings::Settings& settings, uint64_t sweep_seed,
                      const sampling::SampleProgress& progress) {
  // By the settings that a task depends on, and by what the folder looks like from outside.
  std::string key = fmt::format("{}\n{}\n", sweep_seed, base::FileStamp(settings.Text("task.images")));
  const auto is_of_a_network = [](const std::string& name) {
    const auto& kinds = base::PictureNetworkKinds();
    return std::any_of(kinds.begin(), kinds.end(), [&](const base::PictureNetworkKind& kind) {
      return name == kind.setting || name == kind.variant_setting;
    });
  };
  for (const auto& [name, value] : settings.values()) {
    if (name == "base" || name == "scorer" || name.starts_with("task.") || name.starts_with("sample.") ||
        is_of_a_network(name)) {
      key += fmt::format("{}={}\n", name, value);
    }
  }
  auto& task = tasks_[key];
  if (task == nullptr) {
    const std::string& kind = settings.Text("task.kind");
    const auto maker = TaskMakers().find(kind);
    if (maker == TaskMakers().end())
      throw runtime::UserError(fmt::format("task.kind '{}' is not known to this worker", kind));
    task = maker->second(settings, sweep_seed, inputs_, progress);
  }
  return *task;
}

}  // namespace loupe::worker::tasks
