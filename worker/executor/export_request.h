// A tuned base, or its adapter, in the layouts of other programs: `loupe-worker export`. No LibTorch in this header.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "worker/methods/export_layout.h"

namespace loupe::worker::executor {

struct ExportRequest {
  std::string base;
  std::string adapter;  // a trial's adapter file, or another program's LoRA
  std::string out;      // a folder that does not exist yet
  methods::ExportLayout layout = methods::ExportLayout::kMerged;
  // kMerged: weights in float16 instead of float32 (half the size; rounding of the merged weights).
  bool half = false;
};

// The folder is there whole or not at all. ALREADY_EXISTS when there is something at `out`; INVALID_ARGUMENT or
// NOT_FOUND says what of base and adapter does not fit, why this cell cannot be merged, or
// which layouts its method has; else as the disk has it.
absl::Status ExportToFolder(const ExportRequest& request);

struct ConvertRequest {
  std::string file;  // a trial's adapter file, or another program's LoRA, embedding or hypernetwork
  std::string out;   // a folder that does not exist yet
  methods::ExportLayout layout = methods::ExportLayout::kDiffusers;  // IsFileForm
  std::string base;  // of which another program's LoRA is; not needed for the other kinds
  std::string name;  // an embedding's word, or a hypernetwork's name, from now on; empty: as it was
};

// As ExportToFolder, of values alone.
absl::Status ConvertToFolder(const ConvertRequest& request);

}  // namespace loupe::worker::executor
