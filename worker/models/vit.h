// The Vision Transformer (Dosovitskiy et al. 2021, arXiv 2010.11929) as transformers' ViTModel has it, with its
// checkpoint keys. DINO's published ViT-S/16 (facebook/dino-vits16; Caron et al. 2021, arXiv 2104.14294) is such a
// folder.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/io/image.h"
#include "worker/models/picture_preprocessing.h"
#include "worker/models/weights.h"
#include "worker/nn/leaf_layers.h"

namespace loupe::worker::models {

struct ViTConfig {
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t heads = 0;
  int64_t layers = 0;
  double layer_norm_eps = 1e-12;
  int64_t image_size = 0;  // pixels, height and width
  int64_t patch_size = 0;
  bool qkv_bias = true;

  // From a ViTModel's config.json. INVALID_ARGUMENT names the key that is missing, not understood or of another network
  // (a DINOv2 folder's model_type is "dinov2").
  static absl::StatusOr<ViTConfig> Read(const std::string& path);
};

// ViTModel without its pooling layer. Keys: embeddings.*, encoder.layer.N.*, layernorm.
class ViTModelImpl : public torch::nn::Module {
 public:
  explicit ViTModelImpl(const ViTConfig& config);

  // pixels: [N, 3, image_size, image_size], normalised as preprocessor_config.json says. Returns the class token after
  // the last norm, [N, hidden_size]: what DINO's own network returns.
  torch::Tensor forward(const torch::Tensor& pixels);

  const ViTConfig& config() const { return config_; }

 private:
  const ViTConfig config_;
  torch::Tensor cls_token_, position_embeddings_;
  nn::Conv2d projection_{nullptr};
  std::vector<std::shared_ptr<torch::nn::Module>> layers_;
  nn::LayerNorm layernorm_{nullptr};
};
TORCH_MODULE(ViTModel);

// A ViT that tells how alike pictures are. Copies share the network.
struct DinoScorer {
  std::string folder;
  ViTModel vit{nullptr};
  PicturePreprocessing preprocessing;
  // Pictures that go through together: bounds memory.
  static constexpr size_t kPart = 32;

  // [N, hidden_size], float32, CPU, not normalised; without gradients. Throws NotFinite when a value is none.
  torch::Tensor EmbedImages(const std::vector<io::Image>& images);
};

// From a folder with config.json, preprocessor_config.json, and model.safetensors or pytorch_model.bin (of which
// nothing is executed). NOT_FOUND or INVALID_ARGUMENT names the file, and the key or weight, that is missing, not
// understood or does not fit. Positions are not interpolated: pictures come at the size that the network was trained
// at.
absl::StatusOr<DinoScorer> LoadDinoScorer(const std::string& folder, const LoadOptions& options = {});

}  // namespace loupe::worker::models
