// DiT: a transformer over patches of the latents, told the time and the class by adaptive layer norms (Peebles & Xie
// 2022, arXiv 2212.09748), as diffusers' DiTTransformer2DModel and with its checkpoint keys.
//
//   c = mlp(sinusoids(t)) + table[class]
//   x = patches(latents) + sincos(places)
//   block:  α₁, β₁, γ₁, α₂, β₂, γ₂ = linear(silu(c))          (in the files' order: shift, scale, gate, twice)
//           x = x + γ₁ attn1(norm(x)(1 + scale₁) + shift₁)
//           x = x + γ₂ ff(norm(x)(1 + scale₂) + shift₂)
//   out = linear(norm(x)(1 + scale) + shift), unpatched: noise and, where out_channels is twice in_channels, variance
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/container/modulelist.h>

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/io/weight_files.h"
#include "worker/models/weights.h"
#include "worker/nn/ada_layer_norm.h"
#include "worker/nn/attention.h"
#include "worker/nn/patch_embed.h"
#include "worker/nn/tappable.h"

namespace loupe::worker::models {

struct DiTConfig {
  int64_t in_channels = 4;
  int64_t out_channels = 8;
  int64_t sample_size = 32;  // latents' height and width that the network was trained on
  int64_t patch_size = 2;
  int64_t layers = 28;
  int64_t heads = 16;
  int64_t head_width = 72;
  int64_t classes = 1000;  // without the null class
  double norm_eps = 1e-5;  // of the norm before the feed-forward; the others' is 1e-6
  // What the files differ in (OpenDiTWeights finds it out).
  bool published = false;  // the published .pt layout
  // The sinusoids' (time_embedding.h): 1 in diffusers, 0 in the published .pt files, whose networks diffusers' copies
  // therefore are not to the last digit.
  double time_freq_shift = 1;
  // diffusers keeps the embedding of time and class once per block. They are copies of one in everything that was
  // converted from the published files; then the network has it once, in its first block, as its authors meant it.
  // True: the copies differ, and each block has its own.
  bool separate_embeddings = false;

  int64_t width() const { return heads * head_width; }

  // From transformer/config.json, as DiTTransformer2DModel or, in older folders, Transformer2DModel. INVALID_ARGUMENT
  // names file, key, value and what is supported, for every setting that would change the arithmetic.
  static absl::StatusOr<DiTConfig> Read(const std::string& path);
};

// The weights in `folder`, named as the network names them: diffusers' files (WeightFiles), or one published file
// (DiT-XL-2-256x256.pt: blocks.N.attn.qkv and so on), whose fused projections are split. Sets config's last three.
// INVALID_ARGUMENT names the file and what does not fit.
struct DiTWeights {
  io::WeightFiles files;
  std::map<std::string, io::ArrayView> arrays;
};
absl::StatusOr<DiTWeights> OpenDiTWeights(const std::string& folder, DiTConfig& config);

// A network's arrays as diffusers' files have them: with the embedding in every block.
std::map<std::string, torch::Tensor> AsDiffusersFile(std::map<std::string, torch::Tensor> weights,
                                                     const DiTConfig& config);

// One block of the header's formula; taps as in taps.h, but for CA_in, CA_c and CA_out: there is no cross-attention.
// Keys: norm1.linear (and norm1.emb), attn1, ff.
class DiTBlockImpl : public torch::nn::Module, public nn::Tappable {
 public:
  // `with_embedding`: whether it has norm1.emb.
  DiTBlockImpl(const DiTConfig& config, bool with_embedding);

  // x: [N, tokens, width]; condition_silu: [N, width]. Returns x's shape.
  torch::Tensor forward(torch::Tensor x, const torch::Tensor& condition_silu);
  // c of the header. Precondition: it has an embedding.
  torch::Tensor Embed(const torch::Tensor& timesteps, const torch::Tensor& classes, torch::ScalarType dtype);

  nn::TappableBlock Describe(std::string name) override;

  nn::TapSlot taps;

 private:
  const int64_t width_;
  const double norm_eps_;
  nn::AdaModulation modulation_{nullptr};
  nn::TimestepClassEmbedding embedding_{nullptr};
  nn::Attention attn1_{nullptr};
  nn::FeedForward ff_{nullptr};
};
TORCH_MODULE(DiTBlock);

class DiTTransformer2DModelImpl : public torch::nn::Module {
 public:
  explicit DiTTransformer2DModelImpl(const DiTConfig& config);

  // latents: [N, in_channels, H, W], multiples of the patch; timesteps: [N] or [1], any number type; classes: int64
  // [N], config().classes being the null class. Returns [N, out_channels, H, W] in the latents' dtype.
  torch::Tensor forward(const torch::Tensor& latents, const torch::Tensor& timesteps, const torch::Tensor& classes,
                        nn::PositionScaling scaling = nn::PositionScaling::kTrainedRange);

  const DiTConfig& config() const { return config_; }

 private:
  torch::Tensor Unpatch(const torch::Tensor& tokens, int64_t rows, int64_t columns) const;

  const DiTConfig config_;
  nn::PatchEmbed pos_embed_{nullptr};
  torch::nn::ModuleList transformer_blocks_;
  nn::Linear proj_out_1_{nullptr}, proj_out_2_{nullptr};
};
TORCH_MODULE(DiTTransformer2DModel);

}  // namespace loupe::worker::models
