// The Inception network behind published FID values: the one of TensorFlow's inception-2015-12-05 graph (Szegedy et al.
// 2016, arXiv 1512.00567), as pytorch-fid's weights have it. It differs from torchvision's Inception v3 in its pooling
// branches, so that features of the two cannot be compared.
#pragma once

#include <torch/nn/module.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/io/image.h"
#include "worker/models/weights.h"

namespace loupe::worker::models {

// Pictures to pool3 features. Layers have torchvision's names, which are the checkpoint's.
class InceptionImpl : public torch::nn::Module {
 public:
  InceptionImpl();
  // x: [N, 3, 299, 299] in [−1, 1] → [N, 2048].
  torch::Tensor forward(torch::Tensor x);
};
TORCH_MODULE(Inception);

// How pictures of other sizes come to 299 pixels; named, because FID depends on it (Parmar et al. 2022, arXiv
// 2104.11222).
enum class InceptionResize {
  kPytorchFid,  // bilinear, without smoothing when shrinking, on values in [0, 1] (align_corners off)
  // Bicubic with a kernel widened when shrinking, per channel in float32, as Pillow does for pictures of floats; then
  // cut to 0 … 255, without rounding.
  kCleanFid,
};

struct InceptionScorer {
  std::string path;
  Inception network{nullptr};
  InceptionResize resize = InceptionResize::kPytorchFid;
  // Pictures that go through together: bounds memory, at 299 pixels a side.
  static constexpr size_t kPart = 16;

  // [N, 2048], float32, CPU; without gradients. Images may differ in size. Throws NotFinite when a value is none.
  torch::Tensor EmbedImages(const std::vector<io::Image>& images);
};

// From pytorch-fid's pt_inception-2015-12-05-6726825d.pth or the same weights as .safetensors. Nothing in the file is
// executed. Errors name the file and what does not fit (torch_checkpoint.h, weights.h); INVALID_ARGUMENT too when the
// name ends in digits of a SHA-256, as the published one does, that are not the file's.
absl::StatusOr<InceptionScorer> LoadInceptionScorer(const std::string& path, InceptionResize resize,
                                                    const LoadOptions& options = {});

// [N, 3, 299, 299] in [−1, 1], float32, CPU.
torch::Tensor InceptionPixels(const io::Image& image, InceptionResize resize);

}  // namespace loupe::worker::models
