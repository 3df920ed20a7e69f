// The paper's look inside an adapter, outside any trial: `loupe-worker noise-diff`. No LibTorch in this header.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace loupe::worker::executor {

struct NoiseDifferenceRequest {
  std::string base;
  std::string adapter;  // empty: the base alone
  // With and without the identifier; empty: the adapter's own task.instance_prompt and task.class_prompt.
  std::string prompt;
  std::string class_prompt;
  std::string
      images;         // folder of pictures of the class (the first four are used); empty: sampled from the untuned base
  std::string out;    // PNG
  uint64_t seed = 0;  // of the noise put on the pictures, and of the sampled pictures
  int64_t steps = 25;  // of sampling
  double guidance = 7;
  std::string device = "auto";
  int threads = 0;
};

struct NoiseDifference {
  std::vector<int64_t> timesteps;
  // Mean |difference| at each timestep; `untuned` is empty without an adapter.
  std::vector<double> tuned;
  std::vector<double> untuned;
  double full_scale = 0;  // what is black in the picture
};

// Writes the picture (score/prediction_difference.h: the tuned model on the left, the untuned base on the right) and
// returns its numbers. INVALID_ARGUMENT or NOT_FOUND says what of base, adapter, images or prompts is missing or does
// not fit; else as WritePng.
absl::StatusOr<NoiseDifference> WriteNoiseDifference(const NoiseDifferenceRequest& request);

}  // namespace loupe::worker::executor
