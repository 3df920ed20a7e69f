// A tuned base, or its adapter, in the layouts of other programs: `loupe-worker export`. No LibTorch in this header.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace loupe::worker {

enum class ExportLayout {
  kMerged,  // a diffusers folder whose UNet weights hold the adapter; only for linear cells (adapters/folded_weights.h)
  kBundle,  // the base's folder and adapter.safetensors in it: every cell; what diffusers loads of it is the untuned
            // base
  kModules,  // one .pt file per module, as the paper's code has it (adapters/module_files.h)
};

struct ExportRequest {
  std::string base;
  std::string adapter;
  std::string out;  // a folder that does not exist yet
  ExportLayout layout = ExportLayout::kMerged;
  // kMerged: UNet weights in float16 instead of float32 (half the size; rounding of the merged weights).
  bool half = false;
};

// The folder is there whole or not at all. ALREADY_EXISTS when there is something at `out`; INVALID_ARGUMENT or
// NOT_FOUND says what of base and adapter does not fit, or why this cell cannot be merged; else as the disk has it.
absl::Status ExportToFolder(const ExportRequest& request);

}  // namespace loupe::worker
