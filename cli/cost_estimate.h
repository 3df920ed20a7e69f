// How long a trial will take, from the network's size: good to a factor of two or so, before the first trial has run.
//
// Basis, stated in every answer. Work of a trial, in forward passes of the denoiser over one latent:
//   training   steps · images per step · 2   (forward, and a backward pass that must reach every tap)
//   sampling   samples · sampler steps · 2 when guidance is on
// times the arithmetic of one pass (from its config.json) over the speed of the device; or times the seconds per pass
// that earlier trials on the same base took (trial_history.h). Left out: loading, the VAE, scoring, and the class
// images, which are sampled once per replicate and shared by all its trials; the second way has them in its seconds.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/network_flops.h"
#include "common/settings/settings.h"
#include "coordinator/plan/plan.h"
#include "worker/io/base_folder.h"

namespace loupe::cli {

// Sustained speed of one worker that is assumed where the user gives none. CPU: per core, float32, as reached by the
// built-in base on the machine where Loupe was made (docs/trial.md); GPU: a modest share of a data-centre card.
inline constexpr double kCpuGflopsPerCore = 35;
inline constexpr double kGpuGflops = 20'000;

// The arithmetic of one forward pass for one latent (common/network_flops.h), from the text of the denoiser's
// config.json and, for a UNet, the number of text tokens. `side` is that of the latents; 0: the one it was trained on.
// INVALID_ARGUMENT when a key is missing or of a block type that is not known.
absl::StatusOr<NetworkWork> DenoiserWork(worker::io::BaseKind kind, std::string_view config_json, int64_t text_tokens,
                                         int64_t side = 0);

// Forward passes of the denoiser that one trial costs, by the basis above.
double NetworkPasses(const settings::Settings& settings);

// The mean over the plan's cells.
double MeanNetworkPasses(const coordinator::plan::Plan& plan);

struct TrialCost {
  double seconds = 0;  // mean over the plan's cells
  std::string basis;   // one sentence
};

// Reads the denoiser's config.json, the autoencoder's and BASE/tokenizer/tokenizer_config.json for every base that the
// plan uses.
// NOT_FOUND when one is not on this machine.
absl::StatusOr<TrialCost> EstimateTrialCost(const coordinator::plan::Plan& plan, double gflops_per_worker);

}  // namespace loupe::cli
