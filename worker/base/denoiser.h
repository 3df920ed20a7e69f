// A base as training and sampling see it, whatever its networks are: what predicts the noise, and what turns prompts
// into that network's condition. One implementation per kind of base (clip_unet.h); a new one is loaded by LoadBase and
// nothing above it changes.
#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace loupe::worker::nn {
class ContextCache;  // transformer_2d.h
struct PromptSite;   // tuning_sites.h
}  // namespace loupe::worker::nn

namespace loupe::worker::base {

// One row per picture, [N, …]; what the other dimensions mean is between a base's conditioner and its denoiser (text:
// [N, tokens, width]). Rows are chosen, repeated and stacked by their callers.
using Condition = torch::Tensor;

// `condition`, or its only row `rows` times over (a view).
inline Condition RowsOf(const Condition& condition, int64_t rows) {
  std::vector<int64_t> shape(static_cast<size_t>(condition.dim()), -1);
  shape[0] = rows;
  return condition.expand(shape);
}

// Thread-safe as long as no method is attached or detached at the same time.
class Denoiser {
 public:
  virtual ~Denoiser() = default;

  // What the network says of x_t [N, C, h, w] at timesteps ([N] or [1], int64) under the condition (N rows): [N, C, h,
  // w], or [N, 2C, h, w] where it predicts its variance too. An attached method takes part. `cache` keeps what depends
  // on the condition alone, over the calls of one sampling run without gradients.
  virtual torch::Tensor Forward(const torch::Tensor& x_t, const torch::Tensor& timesteps, const Condition& condition,
                                nn::ContextCache* cache = nullptr) = 0;

  // C, h, w of the latents that it was trained on.
  virtual std::vector<int64_t> Shape() const = 0;
  // Whether a variance stands beside the noise in its output (diffusion/learned_variance.h), in the second C channels.
  virtual bool PredictsVariance() const = 0;

  // Whether much of a pass comes before the first look at the condition: guidance's two passes can then share it.
  virtual bool LooksAtConditionLate() const { return false; }

  // The module that holds the weights: where methods look for their places.
  virtual torch::nn::Module& network() = 0;
  // In messages: "UNet".
  virtual std::string name() const = 0;

  // The part of an output that means the noise (or v): all of it, as a rule.
  torch::Tensor NoisePart(const torch::Tensor& output) const { return output.narrow(1, 0, Shape().front()); }
  torch::Device device() { return network().parameters().front().device(); }
};

// As Denoiser.
class Conditioner {
 public:
  virtual ~Conditioner() = default;

  // One row per prompt, on its device; the empty prompt is the unconditional one of guidance (arXiv 2207.12598). With
  // gradients where they are on and something in it is trained.
  virtual Condition Encode(const std::vector<std::string>& prompts) = 0;

  // All that the network sees of the prompts, [N, …], int64, contiguous, CPU: prompts with the same ids have the same
  // encoding.
  virtual torch::Tensor Ids(const std::vector<std::string>& prompts) const = 0;
  // What of a prompt the network never sees, as a sentence; empty when it sees it all.
  virtual std::string DescribeCutOff(const std::string& prompt) const = 0;

  // Where a method may add words; null where prompts are no texts.
  virtual nn::PromptSite* prompts() { return nullptr; }

  virtual torch::nn::Module& network() = 0;
  virtual std::string name() const = 0;
};

}  // namespace loupe::worker::base
