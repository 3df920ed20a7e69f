#include "worker/models/vit.h"

#include <torch/utils.h>

#include <memory>

#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/io/json_config.h"
#include "worker/models/weights.h"

namespace loupe::worker::models {
namespace {

// A level of the checkpoint's names; what computes holds the layers themselves.
class ViTNamesImpl : public torch::nn::Module {
 public:
  using torch::nn::Module::register_module;
  using torch::nn::Module::register_parameter;
};

std::shared_ptr<ViTNamesImpl> NameLevel(torch::nn::Module& parent, const std::string& name) {
  auto level = std::make_shared<ViTNamesImpl>();
  parent.register_module(name, level);
  return level;
}

// Pre-norm: x + attention(layernorm_before(x)), then x + mlp(layernorm_after(x)).
class ViTLayerImpl : public torch::nn::Module {
 public:
  explicit ViTLayerImpl(const ViTConfig& config) : heads_(config.heads) {
    const int64_t width = config.hidden_size;
    const auto attention = NameLevel(*this, "attention"), inner = NameLevel(*attention, "attention");
    query_ = inner->register_module("query", nn::Linear(width, width, config.qkv_bias));
    key_ = inner->register_module("key", nn::Linear(width, width, config.qkv_bias));
    value_ = inner->register_module("value", nn::Linear(width, width, config.qkv_bias));
    attended_ = NameLevel(*attention, "output")->register_module("dense", nn::Linear(width, width));
    up_ = NameLevel(*this, "intermediate")->register_module("dense", nn::Linear(width, config.intermediate_size));
    down_ = NameLevel(*this, "output")->register_module("dense", nn::Linear(config.intermediate_size, width));
    before_ = register_module("layernorm_before", nn::LayerNorm(width, config.layer_norm_eps));
    after_ = register_module("layernorm_after", nn::LayerNorm(width, config.layer_norm_eps));
  }

  torch::Tensor forward(torch::Tensor x) {
    x = x + Attend(before_(x));
    return x + down_(torch::gelu(up_(after_(x))));
  }

 private:
  torch::Tensor Attend(const torch::Tensor& x) {
    const auto split = [&](const torch::Tensor& y) {
      return y.view({x.size(0), x.size(1), heads_, x.size(2) / heads_}).transpose(1, 2);
    };
    const auto y = at::scaled_dot_product_attention(split(query_(x)), split(key_(x)), split(value_(x)));
    return attended_(y.transpose(1, 2).reshape(x.sizes()));
  }

  const int64_t heads_;
  nn::Linear query_{nullptr}, key_{nullptr}, value_{nullptr}, attended_{nullptr}, up_{nullptr}, down_{nullptr};
  nn::LayerNorm before_{nullptr}, after_{nullptr};
};

}  // namespace

absl::StatusOr<ViTConfig> ViTConfig::Read(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(io::JsonConfig json, io::JsonConfig::Read(path));
  if (json.String("model_type", "") != "vit")
    json.Refuse("model_type", "\"vit\" (a ViTModel, such as DINO's ViT-S/16)");
  json.MustBe("hidden_act", {"gelu"});
  json.MustBe("num_channels", {3});
  ViTConfig config;
  // Absent keys mean transformers' defaults (ViT-B/16).
  config.hidden_size = json.Int("hidden_size", 768);
  config.intermediate_size = json.Int("intermediate_size", 3072);
  config.heads = json.Int("num_attention_heads", 12);
  config.layers = json.Int("num_hidden_layers", 12);
  config.layer_norm_eps = json.Number("layer_norm_eps", 1e-12);
  config.image_size = json.Int("image_size", 224);
  config.patch_size = json.Int("patch_size", 16);
  config.qkv_bias = json.Bool("qkv_bias", true);
  for (const auto& [key, value] : {std::pair{"hidden_size", config.hidden_size},
                                   {"intermediate_size", config.intermediate_size},
                                   {"num_hidden_layers", config.layers}}) {
    if (value < 1) json.Refuse(key, "at least 1");
  }
  if (config.heads < 1 || config.hidden_size % config.heads != 0) {
    json.Refuse("num_attention_heads", fmt::format("a number that divides hidden_size ({})", config.hidden_size));
  }
  if (config.patch_size < 1 || config.image_size < config.patch_size) {
    json.Refuse("patch_size", fmt::format("1 to image_size ({})", config.image_size));
  }
  // Of training, of heads that are not loaded, and of the file itself.
  json.Ignore({"architectures", "attention_probs_dropout_prob", "dtype", "encoder_stride", "hidden_dropout_prob",
               "id2label", "initializer_range", "label2id", "pooler_act", "pooler_output_size", "torch_dtype",
               "transformers_version"});
  LOUPE_RETURN_IF_ERROR(json.FinishStrictly());
  return config;
}

ViTModelImpl::ViTModelImpl(const ViTConfig& config) : config_(config) {
  const int64_t width = config.hidden_size, side = config.image_size / config.patch_size;
  const auto embeddings = NameLevel(*this, "embeddings");
  cls_token_ = embeddings->register_parameter("cls_token", torch::empty({1, 1, width}), false);
  position_embeddings_ =
      embeddings->register_parameter("position_embeddings", torch::empty({1, side * side + 1, width}), false);
  projection_ = NameLevel(*embeddings, "patch_embeddings")
                    ->register_module("projection", nn::Conv2d(3, width, config.patch_size, config.patch_size));
  const auto encoder = NameLevel(*this, "encoder"), numbers = NameLevel(*encoder, "layer");
  for (int64_t i = 0; i < config.layers; ++i) {
    layers_.push_back(numbers->register_module(fmt::format("{}", i), std::make_shared<ViTLayerImpl>(config)));
  }
  layernorm_ = register_module("layernorm", nn::LayerNorm(width, config.layer_norm_eps));
}

torch::Tensor ViTModelImpl::forward(const torch::Tensor& pixels) {
  TORCH_CHECK(pixels.dim() == 4 && pixels.size(2) == config_.image_size && pixels.size(3) == config_.image_size,
              "ViT: pixels of shape ", pixels.sizes(), ", expected [N, 3, ", config_.image_size, ", ",
              config_.image_size, "]");
  const auto patches = projection_(pixels).flatten(2).transpose(1, 2);
  auto x = torch::cat({cls_token_.expand({pixels.size(0), -1, -1}), patches}, 1) + position_embeddings_;
  for (const auto& layer : layers_) x = layer->as<ViTLayerImpl>()->forward(x);
  return layernorm_(x).select(1, 0);
}

torch::Tensor DinoScorer::EmbedImages(const std::vector<io::Image>& images) {
  torch::NoGradGuard no_grad;
  const auto options = vit->parameters().front().options();
  return EmbedInParts(images, kPart, folder + ": what the ViT gives",
                      [&](std::span<const io::Image> part) { return vit(preprocessing.Apply(part).to(options)); });
}

absl::StatusOr<DinoScorer> LoadDinoScorer(const std::string& folder, const LoadOptions& options) {
  LOUPE_ASSIGN_OR_RETURN(const auto config, ViTConfig::Read(folder + "/config.json"));
  LOUPE_ASSIGN_OR_RETURN(const auto preprocessing,
                         PicturePreprocessing::Read(folder, PicturePreprocessing::Defaults::kViT));
  LOUPE_RETURN_IF_ERROR(preprocessing.CheckFits(folder, config.image_size));
  DinoScorer scorer{folder, ViTModel(config), preprocessing};
  WeightOptions rules{.dtype = options.dtype, .device = options.device};
  rules.passed_over = {"pooler.dense.weight", "pooler.dense.bias"};  // a head that DINO does not use
  LOUPE_ASSIGN_OR_RETURN(const io::WeightFiles weights, io::WeightFiles::Open(folder, "model"));
  LOUPE_RETURN_IF_ERROR(LoadWeights(*scorer.vit, weights, rules));
  scorer.vit->eval();
  return scorer;
}

}  // namespace loupe::worker::models
