// The Executor that trains and scores with LibTorch. Exceptions of the tensor code end in its pack.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/executor/attempt.h"

namespace loupe::worker::ranks {
class StepHub;  // step_hub.h
}  // namespace loupe::worker::ranks

namespace loupe::worker::executor {

struct TrialExecutorOptions {
  // "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N". Several of one kind with commas between them
  // ("cuda:0,cuda:1", "cpu,cpu"): a trial may have as many ranks (train.devices); other trials use the first.
  std::string device = "auto";
  // Threads of the CPU's tensor code, of each rank; 0 leaves LibTorch's own choice (all cores).
  int threads = 0;
  // Class pictures and base embeddings; may be shared with other workers of the machine.
  std::string cache_folder;
  // Trials that are trained together where they fit each other; 0: as many as memory holds, found out with the first.
  int32_t slots = 1;
  // How those go through the base: each in passes of its own, which a CPU takes as long for and whose bytes are those
  // of a run alone; or as one batch, which keeps a GPU busy (pack.h). kByDevice: on a GPU as one batch.
  enum class Passes { kByDevice, kOwn, kShared };
  Passes passes = Passes::kByDevice;
  // Whether a GPU repeats training and sampling steps from recordings (runtime/cuda_graph.h).
  bool graphs = false;
  // What a trial's other ranks run: a program with the sub-command `rank` (rank_follower.h).
  std::string rank_program = "/proc/self/exe";
  // Where they are other tasks of this process's job step: `device` is this task's, of which the others have one each.
  std::shared_ptr<ranks::StepHub> step;
};

// Base and scorer are loaded at the first trial that needs them and kept until their files change. INVALID_ARGUMENT
// when the device is not one of the forms above, FAILED_PRECONDITION when this machine or build has no such GPU.
absl::StatusOr<std::unique_ptr<Executor>> MakeTrialExecutor(const TrialExecutorOptions& options);

}  // namespace loupe::worker::executor
