// Pictures from a prompt: initial noise, guided sampling, decoding.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "worker/base/base_model.h"
#include "worker/io/image.h"
#include "worker/nn/transformer_2d.h"
#include "worker/sampling/sampler.h"

namespace loupe::worker::sampling {

struct SampleOptions {
  SamplerKind sampler = SamplerKind::kDpmSolverPlusPlus2M;
  int64_t steps = 25;
  // Classifier-free guidance against the empty caption; 1 turns it off (and halves the cost).
  double guidance = 7;
  // Guided are the first so many channels of the latents; 0: all. 3 is what DiT's published code does (arXiv
  // 2212.09748; its forward_with_cfg), whose numbers it is there to repeat.
  int64_t guided_channels = 0;
  // Pictures per run of the sampler: bounds memory, changes results only by rounding.
  int64_t batch = 8;
  // Of the denoiser's forward pass (runtime/autocast_scope.h); all else is float32.
  torch::ScalarType precision = torch::kFloat32;
};

// A denoiser under the conditions of one sampling run, over its steps. Without gradients; not thread-safe.
class ConditionedDenoiser {
 public:
  // `rows`: a condition per picture; `guided`: first the empty caption's, then theirs. `slots`: of how many trials of a
  // pack, trial by trial within each half; the network sees all rows of a trial next to each other (methods/method.h).
  // The halves of guidance have the same latents, and what a denoiser makes of them before it looks at its condition is
  // computed once for both. On a CPU they are passes of their own; on a GPU, where starting a kernel costs more than
  // its rows, they are one.
  enum class Halves { kPasses, kOnePass };
  ConditionedDenoiser(base::Denoiser& denoiser, const torch::Tensor& rows, bool guided, int64_t slots = 1)
      : ConditionedDenoiser(denoiser, rows, guided, slots, rows.is_cpu() ? Halves::kPasses : Halves::kOnePass) {}
  ConditionedDenoiser(base::Denoiser& denoiser, const torch::Tensor& rows, bool guided, int64_t slots, Halves halves);
  // One output for each row of `latents`; guided, they are there twice (WithGuidance).
  torch::Tensor operator()(const torch::Tensor& latents, int64_t timestep) {
    return At(latents, StepsOf(latents, timestep));
  }
  // The timestep as its tensor, and the pass with that: all that it depends on is in tensors.
  torch::Tensor StepsOf(const torch::Tensor& latents, int64_t timestep) const;
  torch::Tensor At(const torch::Tensor& latents, const torch::Tensor& steps);

 private:
  torch::Tensor Exchanged(const torch::Tensor& rows, int64_t outer, int64_t inner) const;

  torch::Tensor OnePass(const torch::Tensor& latents, const torch::Tensor& steps);

  base::Denoiser& denoiser_;
  const bool guided_;
  const int64_t slots_;
  const bool late_;  // something comes before the condition
  const bool passes_;
  const torch::Tensor rows_;
  nn::ContextCache of_all_, of_second_;
};

// Called after each network call; may throw to end the sampling.
using SampleProgress = std::function<void(int64_t done, int64_t total)>;

// latents_scaled [n, C, h, w] from `noise` ~ N(0, 1) of that shape (CPU), on the base's device; without gradients. One
// prompt for all rows, or n. The base's taps count: an attached method takes part. Throws NotFinite (layers/finite.h)
// naming the step whose prediction is none.
torch::Tensor SampleLatents(base::BaseModel& base, const std::vector<std::string>& prompts, const torch::Tensor& noise,
                            const SampleOptions& options, const SampleProgress& progress = {});

// What one slot of a pack's method makes: one prompt or one per picture, and the pictures' noise. All slots of a run
// have as many of both.
struct SlotPictures {
  std::vector<std::string> prompts;
  torch::Tensor noise;
};
// The same for all slots of the attached method together, options.batch pictures of each at a time. By slot.
std::vector<torch::Tensor> SampleSlots(base::BaseModel& base, const std::vector<SlotPictures>& slots,
                                       const SampleOptions& options, const SampleProgress& progress = {});

// Decoded, options.batch at a time.
std::vector<io::Image> DecodePictures(base::BaseModel& base, const torch::Tensor& latents,
                                      const SampleOptions& options);

// Sampled and decoded.
std::vector<io::Image> SamplePictures(base::BaseModel& base, const std::vector<std::string>& prompts,
                                      const torch::Tensor& noise, const SampleOptions& options,
                                      const SampleProgress& progress = {});

// The shape of the noise for `count` pictures of the base's own size.
std::vector<int64_t> NoiseShape(const base::BaseModel& base, int64_t count);

// Pictures of one size side by side, row by row, as near to a square as can be, two white pixels apart. At least one.
io::Image MakeSheet(const std::vector<io::Image>& images);
// The same with so many to a row.
io::Image MakeGrid(const std::vector<io::Image>& images, int columns);

}  // namespace loupe::worker::sampling
