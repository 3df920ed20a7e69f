#include "worker/commands/step_flags.h"

#include "common/logging.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/ranks/job_step.h"

namespace loupe::worker::commands {

void AddStepOption(CLI::App& command, std::string& step_file) {
  command.add_option(
      "--step-file", step_file,
      "As tasks of one job step of Slurm (srun --ntasks=N): task 0 is the worker, the others its ranks for "
      "trials with train.devices. By this file, which does not exist and which all nodes will see, they "
      "find each other. --device cuda: each takes the GPU of its place on its node");
}

void AddGraphsOption(CLI::App& command, bool& graphs) {
  command.add_flag("--graphs", graphs,
                   "On a GPU: repeat training and sampling steps as CUDA graphs. Each is compared with the operators' "
                   "own first; what cannot be repeated is not, and the log says why");
}

absl::StatusOr<bool> ServeInStep(const std::string& step_file, executor::TrialExecutorOptions& executor) {
  if (step_file.empty()) return false;
  LOUPE_ASSIGN_OR_RETURN(const ranks::StepPlace place, ranks::StepPlace::OfThisTask(step_file));
  if (executor.device == "cuda") executor.device = fmt::format("cuda:{}", place.local);
  if (executor.device.find(',') != std::string::npos) {
    return absl::InvalidArgumentError(
        fmt::format("'{}': with --step-file each task has one device: --device cuda or cpu", executor.device));
  }
  if (place.task != 0) {
    SetLogField("rank", fmt::format("{}", place.task));
    LOUPE_RETURN_IF_ERROR(ranks::HostRank(place, executor.rank_program, executor.device));
    return true;
  }
  LOUPE_ASSIGN_OR_RETURN(executor.step, ranks::OpenStep(place));
  return false;
}

}  // namespace loupe::worker::commands
