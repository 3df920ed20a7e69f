// The Executor that trains and scores with LibTorch: the one place where exceptions of the tensor code end.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/executor/attempt.h"

namespace loupe::worker {

struct TrialExecutorOptions {
  // "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N".
  std::string device = "auto";
  // Threads of the CPU's tensor code; 0 leaves LibTorch's own choice (all cores).
  int threads = 0;
  // Class pictures and base embeddings; may be shared with other workers of the machine.
  std::string cache_folder;
};

// Base and scorer are loaded at the first trial that needs them and kept until their files change. INVALID_ARGUMENT
// when the device is not one of the forms above, FAILED_PRECONDITION when this machine or build has no such GPU.
absl::StatusOr<std::unique_ptr<Executor>> MakeTrialExecutor(const TrialExecutorOptions& options);

}  // namespace loupe::worker
