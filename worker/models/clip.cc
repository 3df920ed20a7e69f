#include "worker/models/clip.h"

#include <utility>

namespace loupe::worker::models {
namespace {

class ClipAttentionImpl : public torch::nn::Module {
 public:
  ClipAttentionImpl(int64_t width, int64_t heads)
      : heads_(heads),
        k_proj_(register_module("k_proj", nn::Linear(width, width))),
        v_proj_(register_module("v_proj", nn::Linear(width, width))),
        q_proj_(register_module("q_proj", nn::Linear(width, width))),
        out_proj_(register_module("out_proj", nn::Linear(width, width))) {}

  torch::Tensor forward(const torch::Tensor& x, bool causal) {
    const auto split = [&](const torch::Tensor& y) {
      return y.view({x.size(0), x.size(1), heads_, x.size(2) / heads_}).transpose(1, 2);
    };
    const auto y = at::scaled_dot_product_attention(split(q_proj_(x)), split(k_proj_(x)), split(v_proj_(x)),
                                                    /*attn_mask=*/{}, /*dropout_p=*/0.0, causal);
    return out_proj_(y.transpose(1, 2).reshape(x.sizes()));
  }

 private:
  int64_t heads_;
  nn::Linear k_proj_{nullptr}, v_proj_{nullptr}, q_proj_{nullptr}, out_proj_{nullptr};
};
TORCH_MODULE(ClipAttention);

class ClipMlpImpl : public torch::nn::Module {
 public:
  explicit ClipMlpImpl(const ClipEncoderConfig& config)
      : activation_(config.activation),
        fc1_(register_module("fc1", nn::Linear(config.hidden_size, config.intermediate_size))),
        fc2_(register_module("fc2", nn::Linear(config.intermediate_size, config.hidden_size))) {}

  torch::Tensor forward(const torch::Tensor& x) {
    const auto h = fc1_(x);
    return fc2_(activation_ == ClipActivation::kQuickGelu ? h * torch::sigmoid(1.702 * h) : torch::gelu(h));
  }

 private:
  ClipActivation activation_;
  nn::Linear fc1_{nullptr}, fc2_{nullptr};
};
TORCH_MODULE(ClipMlp);

class ClipEncoderLayerImpl : public torch::nn::Module {
 public:
  explicit ClipEncoderLayerImpl(const ClipEncoderConfig& config)
      : self_attn_(register_module("self_attn", ClipAttention(config.hidden_size, config.heads))),
        layer_norm1_(register_module("layer_norm1", nn::LayerNorm(config.hidden_size, config.layer_norm_eps))),
        mlp_(register_module("mlp", ClipMlp(config))),
        layer_norm2_(register_module("layer_norm2", nn::LayerNorm(config.hidden_size, config.layer_norm_eps))) {}

  torch::Tensor forward(torch::Tensor x, bool causal) {
    x = x + self_attn_(layer_norm1_(x), causal);
    return x + mlp_(layer_norm2_(x));
  }

 private:
  ClipAttention self_attn_{nullptr};
  nn::LayerNorm layer_norm1_{nullptr};
  ClipMlp mlp_{nullptr};
  nn::LayerNorm layer_norm2_{nullptr};
};

// A level of the checkpoint's names; the towers hold the layers themselves.
class ClipEmbeddingNamesImpl : public torch::nn::Module {
 public:
  using torch::nn::Module::register_module;
  using torch::nn::Module::register_parameter;
};

}  // namespace

ClipEncoderImpl::ClipEncoderImpl(const ClipEncoderConfig& config) {
  for (int64_t i = 0; i < config.layers; ++i) layers_->push_back(std::make_shared<ClipEncoderLayerImpl>(config));
  register_module("layers", layers_);
}

torch::Tensor ClipEncoderImpl::forward(torch::Tensor x, bool causal, torch::Tensor* before_last) {
  for (const auto& layer : *layers_) {
    if (before_last != nullptr) *before_last = x;
    x = layer->as<ClipEncoderLayerImpl>()->forward(x, causal);
  }
  return x;
}

std::vector<torch::Tensor> ClipEncoderImpl::ForwardLayers(torch::Tensor x, bool causal) {
  std::vector<torch::Tensor> given;
  for (const auto& layer : *layers_) {
    x = layer->as<ClipEncoderLayerImpl>()->forward(x, causal);
    given.push_back(x);
  }
  return given;
}

CLIPTextModelImpl::CLIPTextModelImpl(ClipTextConfig config) : config_(std::move(config)) {
  const int64_t width = config_.encoder.hidden_size;
  auto embeddings = register_module("embeddings", std::make_shared<ClipEmbeddingNamesImpl>());
  token_embedding_ = embeddings->register_module("token_embedding", nn::Embedding(config_.vocab_size, width));
  position_embedding_ = embeddings->register_module("position_embedding", nn::Embedding(config_.max_positions, width));
  encoder_ = register_module("encoder", ClipEncoder(config_.encoder));
  final_layer_norm_ = register_module("final_layer_norm", nn::LayerNorm(width, config_.encoder.layer_norm_eps));
  if (config_.projection_dim > 0) {
    text_projection_ =
        register_module("text_projection", nn::Linear(width, config_.projection_dim, /*with_bias=*/false));
  }
}

torch::Tensor CLIPTextModelImpl::Embed(const torch::Tensor& ids) {
  TORCH_CHECK(ids.dim() == 2 && ids.size(1) <= config_.max_positions, "CLIP text: ids of shape ", ids.sizes(),
              ", expected [N, at most ", config_.max_positions, "]");
  // A position per row, not one for all rows: each trial of a pack may have its own embeddings.
  const auto positions = torch::arange(ids.size(1), ids.options()).expand_as(ids);
  return token_embedding_(ids) + position_embedding_(positions);
}

torch::Tensor CLIPTextModelImpl::forward(const torch::Tensor& ids) {
  return final_layer_norm_(encoder_(Embed(ids), /*causal=*/true));
}

CLIPTextModelImpl::Penultimate CLIPTextModelImpl::ForwardPenultimate(const torch::Tensor& ids) {
  Penultimate result;
  const auto last = encoder_(Embed(ids), /*causal=*/true, &result.hidden);
  if (!text_projection_.is_empty()) result.pooled = text_projection_(Pool(final_layer_norm_(last), ids));
  return result;
}

torch::Tensor CLIPTextModelImpl::Pool(const torch::Tensor& hidden, const torch::Tensor& ids) const {
  const auto end = config_.eos_token_id == 2 ? ids.argmax(1) : ids.eq(config_.eos_token_id).to(torch::kInt).argmax(1);
  return hidden.index({torch::arange(hidden.size(0), end.options()), end});
}

CLIPVisionModelImpl::CLIPVisionModelImpl(ClipVisionConfig config) : config_(std::move(config)) {
  const int64_t width = config_.encoder.hidden_size;
  const int64_t side = config_.image_size / config_.patch_size;
  auto embeddings = register_module("embeddings", std::make_shared<ClipEmbeddingNamesImpl>());
  class_embedding_ = embeddings->register_parameter("class_embedding", torch::empty({width}), false);
  patch_embedding_ = embeddings->register_module(
      "patch_embedding",
      nn::Conv2d(3, width, config_.patch_size, config_.patch_size, /*padding=*/0, /*with_bias=*/false));
  position_embedding_ = embeddings->register_module("position_embedding", nn::Embedding(side * side + 1, width));
  pre_layrnorm_ = register_module("pre_layrnorm", nn::LayerNorm(width, config_.encoder.layer_norm_eps));
  encoder_ = register_module("encoder", ClipEncoder(config_.encoder));
  post_layernorm_ = register_module("post_layernorm", nn::LayerNorm(width, config_.encoder.layer_norm_eps));
}

torch::Tensor CLIPVisionModelImpl::Embed(const torch::Tensor& pixels) {
  TORCH_CHECK(pixels.dim() == 4 && pixels.size(2) == config_.image_size && pixels.size(3) == config_.image_size,
              "CLIP vision: pixels of shape ", pixels.sizes(), ", expected [N, 3, ", config_.image_size, ", ",
              config_.image_size, "]");
  const auto patches = patch_embedding_(pixels).flatten(2).transpose(1, 2);
  const auto first = class_embedding_.expand({pixels.size(0), 1, class_embedding_.size(0)});
  const auto x = torch::cat({first, patches}, 1) + position_embedding_->weight;
  return pre_layrnorm_(x);
}

torch::Tensor CLIPVisionModelImpl::forward(const torch::Tensor& pixels) {
  const auto hidden = encoder_(Embed(pixels), /*causal=*/false);
  return post_layernorm_(hidden.select(1, 0));
}

std::vector<torch::Tensor> CLIPVisionModelImpl::PatchLayers(const torch::Tensor& pixels) {
  std::vector<torch::Tensor> layers = encoder_->ForwardLayers(Embed(pixels), /*causal=*/false);
  for (torch::Tensor& layer : layers) layer = layer.narrow(1, 1, layer.size(1) - 1);
  return layers;
}

CLIPModelImpl::CLIPModelImpl(const ClipConfig& config)
    : text_model(register_module("text_model", CLIPTextModel(config.text))),
      vision_model(register_module("vision_model", CLIPVisionModel(config.vision))),
      logit_scale(register_parameter("logit_scale", torch::empty({}), false)),
      visual_projection_(register_module("visual_projection", nn::Linear(config.vision.encoder.hidden_size,
                                                                         config.projection_dim, /*with_bias=*/false))),
      text_projection_(register_module(
          "text_projection", nn::Linear(config.text.encoder.hidden_size, config.projection_dim, /*with_bias=*/false))) {
}

torch::Tensor CLIPModelImpl::ImageFeatures(const torch::Tensor& pixels) {
  return visual_projection_(vision_model(pixels));
}

torch::Tensor CLIPModelImpl::TextFeatures(const torch::Tensor& ids) {
  return text_projection_(text_model->Pool(text_model(ids), ids));
}

}  // namespace loupe::worker::models
