// EfficientNet-Lite, a classifier of ImageNet's photographs (Tan and Le 2019, arXiv 1905.11946, without squeeze and
// excitation and with ReLU6; TensorFlow's efficientnet/lite), with the checkpoint keys of the PyTorch package
// efficientnet_lite_pytorch. deploy/image-network.sh makes a folder of its published Lite0.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/io/image.h"
#include "worker/models/picture_preprocessing.h"
#include "worker/models/weights.h"
#include "worker/nn/leaf_layers.h"

namespace loupe::worker::models {

struct EfficientNetConfig {
  double width = 1;  // of all channels but the stem's and the head's
  double depth = 1;  // of all repeats but those of the first and the last stage
  int64_t image_size = 224;
  int64_t classes = 1000;

  // {"model_type": "efficientnet-lite", "width_coefficient", "depth_coefficient", "image_size", "num_classes"}.
  // INVALID_ARGUMENT names the key that is missing, not understood or of another network.
  static absl::StatusOr<EfficientNetConfig> Read(const std::string& path);
};

// Keys: _conv_stem, _bn0, _blocks.N.{_expand_conv, _bn0, _depthwise_conv, _bn1, _project_conv, _bn2}, _conv_head, _bn1,
// _fc.
class EfficientNetImpl : public torch::nn::Module {
 public:
  explicit EfficientNetImpl(const EfficientNetConfig& config);

  static constexpr int64_t kFeatures = 1280;

  // pixels: [N, 3, H, W], normalised as preprocessor_config.json says. Returns what the classifier reads, the mean over
  // positions of the last layer, [N, kFeatures].
  torch::Tensor forward(const torch::Tensor& pixels);
  // The classifier's scores of `features`, [N, classes].
  torch::Tensor Logits(const torch::Tensor& features) { return classifier_(features); }
  // What each of the seven stages gives, [N, positions, channels].
  std::vector<torch::Tensor> Stages(const torch::Tensor& pixels);

 private:
  struct Block;
  torch::Tensor Stem(const torch::Tensor& pixels);

  std::vector<std::shared_ptr<Block>> blocks_;
  std::vector<size_t> stage_ends_;  // the last block of each
  std::shared_ptr<torch::nn::Module> stem_, stem_norm_, head_, head_norm_;
  nn::Linear classifier_{nullptr};
};
TORCH_MODULE(EfficientNet);

// A network of photographs that tells how alike pictures are. Copies share it.
struct EfficientNetScorer {
  std::string folder;
  EfficientNet network{nullptr};
  PicturePreprocessing preprocessing;
  // Pictures that go through together: bounds memory.
  static constexpr size_t kPart = 16;

  // [N, kFeatures], float32, CPU, not normalised; without gradients. Throws NotFinite when a value is none.
  torch::Tensor EmbedImages(const std::vector<io::Image>& images);
};

// From a folder with config.json, preprocessor_config.json, and model.safetensors or pytorch_model.bin (of which
// nothing is executed). Errors as LoadDinoScorer.
absl::StatusOr<EfficientNetScorer> LoadEfficientNetScorer(const std::string& folder, const LoadOptions& options = {});

}  // namespace loupe::worker::models
