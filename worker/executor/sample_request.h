// Pictures from a prompt outside any trial: `loupe-worker sample`. No LibTorch in this header.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace loupe::worker::executor {

struct SampleRequest {
  std::string base;
  std::string adapter;  // a trial's adapter file, or another program's LoRA; empty: the base alone
  std::string prompt;
  std::string out;  // PNG: one picture, or a sheet
  int64_t count = 1;
  uint64_t seed = 0;  // of the initial noise: torch.Generator().manual_seed(seed)'s randn((count, C, h, w))
  std::string sampler = "dpm-solver++";
  int64_t steps = 25;
  double guidance = 7;
  std::string device = "auto";
  int threads = 0;
};

// INVALID_ARGUMENT or NOT_FOUND says what of base, adapter or prompt does not fit; else as WritePng.
absl::Status SampleToFile(const SampleRequest& request);

}  // namespace loupe::worker::executor
