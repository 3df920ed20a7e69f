// How long a trial will take, from the network's size: good to a factor of two or so, before the first trial has run.
//
// Basis, stated in every answer. Work of a trial, in multiply-adds of the U-Net's forward pass F (from
// unet/config.json):
//   training   steps · images per step · 3 F   (forward, and a backward pass that must reach every tap: twice a
//   forward) sampling   samples · sampler steps · F · 2 when guidance is on
// over the speed of the device. Left out: loading, the VAE, scoring, and the class images, which are sampled once per
// replicate and shared by all its trials.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/settings.h"
#include "coordinator/plan/plan.h"

namespace loupe::cli {

// Sustained speed of one worker that is assumed where the user gives none. CPU: per core, float32, as reached by the
// built-in base on the machine where Loupe was made (docs/trial-cost.md); GPU: a modest share of a data-centre card.
inline constexpr double kCpuGflopsPerCore = 35;
inline constexpr double kGpuGflops = 20'000;

// Floating-point operations (two per multiply-add) of one forward pass of a UNet2DConditionModel for one latent, from
// the text of its config.json and the number of text tokens. INVALID_ARGUMENT when a key is missing or of a block type
// that is not known.
absl::StatusOr<double> UnetForwardFlops(std::string_view config_json, int64_t text_tokens);

struct TrialCost {
  double seconds = 0;  // mean over the plan's cells
  std::string basis;   // one sentence
};

// Reads BASE/unet/config.json and BASE/tokenizer/tokenizer_config.json for every base that the plan uses. NOT_FOUND
// when one is not on this machine.
absl::StatusOr<TrialCost> EstimateTrialCost(const coordinator::Plan& plan, double gflops_per_worker);

}  // namespace loupe::cli
