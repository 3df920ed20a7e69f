// The tasks by the name that `task.kind` gives them.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "worker/tasks/shared_inputs.h"
#include "worker/tasks/task.h"

namespace loupe::worker::tasks {

// What this program can be asked for.
std::vector<std::string> TaskNames();

// Keeps each task that was made. Not thread-safe.
class Tasks {
 public:
  explicit Tasks(SharedInputs& inputs) : inputs_(inputs) {}

  // What the settings' trials share. Made at the first call: reads the pictures, samples and encodes what is not in the
  // cache. `progress` hears of that, and of waiting for another worker that makes what is needed; it may throw to end
  // either. Throws UserError for what the user can mend. The reference stays valid until Forget.
  const Task& Of(const settings::Settings& settings, uint64_t sweep_seed, const sampling::SampleProgress& progress);

  // After ModelStore's ForgetChanged or ForgetAll: what was computed from the models that are gone.
  void Forget() { tasks_.clear(); }

 private:
  SharedInputs& inputs_;
  std::map<std::string, std::unique_ptr<const Task>> tasks_;  // by key
};

}  // namespace loupe::worker::tasks
