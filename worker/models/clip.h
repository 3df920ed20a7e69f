// CLIP (Radford et al. 2021, arXiv 2103.00020), both towers, under transformers' names and with its checkpoint keys:
// the text tower conditions the diffusion, both towers together score pictures.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/container/modulelist.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/io/json_config.h"
#include "worker/nn/leaf_layers.h"

namespace loupe::worker::models {

enum class ClipActivation { kQuickGelu, kGelu };

// What the two towers share.
struct ClipEncoderConfig {
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t heads = 0;
  int64_t layers = 0;
  double layer_norm_eps = 1e-5;
  ClipActivation activation = ClipActivation::kQuickGelu;  // quick: x·sigmoid(1.702 x)
};

struct ClipTextConfig {
  ClipEncoderConfig encoder;
  int64_t vocab_size = 0;
  int64_t max_positions = 0;
  int64_t eos_token_id = 0;    // 2 means: the largest id in the row is the end (files from before the id was stored)
  int64_t projection_dim = 0;  // of a CLIPTextModelWithProjection; else 0

  // From a CLIPTextModel's config.json, or a CLIPModel's text_config. Errors as for the other configs.
  static absl::StatusOr<ClipTextConfig> Read(const std::string& path);
  // From a CLIPTextModelWithProjection's.
  static absl::StatusOr<ClipTextConfig> ReadWithProjection(const std::string& path);
  static ClipTextConfig From(io::JsonConfig& json);  // errors are left in `json`
};

struct ClipVisionConfig {
  ClipEncoderConfig encoder;
  int64_t image_size = 0;  // pixels, height and width
  int64_t patch_size = 0;

  static ClipVisionConfig From(io::JsonConfig& json);
};

struct ClipConfig {
  ClipTextConfig text;
  ClipVisionConfig vision;
  int64_t projection_dim = 0;

  // From a CLIPModel's config.json (with text_config and vision_config).
  static absl::StatusOr<ClipConfig> Read(const std::string& path);
};

// Pre-norm transformer layers: x + attention(layer_norm1(x)), then x + mlp(layer_norm2(x)).
class ClipEncoderImpl : public torch::nn::Module {
 public:
  explicit ClipEncoderImpl(const ClipEncoderConfig& config);
  // x: [N, tokens, hidden_size]; `causal`: a token sees only itself and those before. `before_last`: what the last
  // layer reads.
  torch::Tensor forward(torch::Tensor x, bool causal, torch::Tensor* before_last = nullptr);
  // What each layer gives, in order.
  std::vector<torch::Tensor> ForwardLayers(torch::Tensor x, bool causal);

 private:
  torch::nn::ModuleList layers_;
};
TORCH_MODULE(ClipEncoder);

// CLIPTextModel, and with projection_dim CLIPTextModelWithProjection. Keys: embeddings.*, encoder.layers.N.*,
// final_layer_norm (a checkpoint has them under "text_model.", newer ones also without), text_projection.
class CLIPTextModelImpl : public torch::nn::Module {
 public:
  explicit CLIPTextModelImpl(ClipTextConfig config);

  // ids: [N, tokens] int64, tokens ≤ max_positions. Returns the last hidden state after the final norm,
  // [N, tokens, hidden_size]: what the UNet is conditioned on. Padding is not masked, as in Stable Diffusion v1.
  torch::Tensor forward(const torch::Tensor& ids);
  // What Stable Diffusion XL is conditioned on: the hidden state before the last layer, without the final norm, [N,
  // tokens, hidden_size]; and of a tower with a projection, the projection of Pool of the last, [N, projection_dim].
  struct Penultimate {
    torch::Tensor hidden;
    torch::Tensor pooled;  // undefined without a projection
  };
  Penultimate ForwardPenultimate(const torch::Tensor& ids);
  // The row's hidden state at its (first) end token, [N, hidden_size].
  torch::Tensor Pool(const torch::Tensor& hidden, const torch::Tensor& ids) const;

  const ClipTextConfig& config() const { return config_; }

 private:
  torch::Tensor Embed(const torch::Tensor& ids);

  ClipTextConfig config_;
  nn::Embedding token_embedding_{nullptr}, position_embedding_{nullptr};
  ClipEncoder encoder_{nullptr};
  nn::LayerNorm final_layer_norm_{nullptr};
  nn::Linear text_projection_{nullptr};
};
TORCH_MODULE(CLIPTextModel);

// CLIPVisionModel. Keys under "vision_model.": embeddings.*, pre_layrnorm (as published), encoder.*, post_layernorm.
class CLIPVisionModelImpl : public torch::nn::Module {
 public:
  explicit CLIPVisionModelImpl(ClipVisionConfig config);

  // pixels: [N, 3, image_size, image_size], normalised as preprocessor_config.json says. Returns the class token after
  // the last norm, [N, hidden_size].
  torch::Tensor forward(const torch::Tensor& pixels);
  // What each layer gives of the patches, in order, each [N, patches, hidden_size]: the class token is left out.
  std::vector<torch::Tensor> PatchLayers(const torch::Tensor& pixels);

  const ClipVisionConfig& config() const { return config_; }

 private:
  torch::Tensor Embed(const torch::Tensor& pixels);

  ClipVisionConfig config_;
  torch::Tensor class_embedding_;
  nn::Conv2d patch_embedding_{nullptr};
  nn::Embedding position_embedding_{nullptr};
  nn::LayerNorm pre_layrnorm_{nullptr}, post_layernorm_{nullptr};
  ClipEncoder encoder_{nullptr};
};
TORCH_MODULE(CLIPVisionModel);

// CLIPModel: both towers with their projections into one space. Keys: text_model.*, vision_model.*, text_projection,
// visual_projection, logit_scale.
class CLIPModelImpl : public torch::nn::Module {
 public:
  explicit CLIPModelImpl(const ClipConfig& config);

  // Not normalised: [N, projection_dim].
  torch::Tensor ImageFeatures(const torch::Tensor& pixels);
  torch::Tensor TextFeatures(const torch::Tensor& ids);

  CLIPTextModel text_model{nullptr};
  CLIPVisionModel vision_model{nullptr};
  torch::Tensor logit_scale;  // a single number: log of the temperature's inverse; used in training only

 private:
  nn::Linear visual_projection_{nullptr}, text_projection_{nullptr};
};
TORCH_MODULE(CLIPModel);

}  // namespace loupe::worker::models
