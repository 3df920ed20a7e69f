// What `run` and `trial` have in common. They may be tasks of one job step (srun --ntasks=N): task 0 is the worker, the
// others are its ranks.
#pragma once

#include <string>

#include "CLI/App.hpp"
#include "absl/status/statusor.h"
#include "worker/executor/trial_executor.h"

namespace loupe::worker::commands {

void AddStepOption(CLI::App& command, std::string& step_file);

// --graphs: TrialExecutorOptions::graphs.
void AddGraphsOption(CLI::App& command, bool& graphs);

// What this process is. Of task 0, and outside of a step (no file), `executor` is completed and false returned. Another
// task has served, and is over, when this returns true.
absl::StatusOr<bool> ServeInStep(const std::string& step_file, executor::TrialExecutorOptions& executor);

}  // namespace loupe::worker::commands
