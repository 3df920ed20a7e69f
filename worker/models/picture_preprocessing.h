// How a scoring network wants its pictures: a model folder's processor_config.json or
// preprocessor_config.json, as transformers writes it.
#pragma once

#include <torch/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/io/image.h"

namespace loupe::worker::models {

struct PicturePreprocessing {
  // What absent keys mean, and a bare number as size: CLIP's processor resizes the shorter side by bicubic
  // interpolation and takes the middle square; ViT's resizes both sides by bilinear interpolation and takes everything.
  enum class Defaults { kClip, kViT };

  int64_t resized = 224;  // what the shorter side, or with `stretch` both sides, come to
  bool stretch = false;
  io::Image (*resize)(const io::Image& image, int width, int height) = io::ResizeBicubic;
  int64_t size = 224;  // of the middle square that is taken then; at most `resized`
  std::array<float, 3> mean{};
  std::array<float, 3> deviation{};

  // NOT_FOUND: neither file. INVALID_ARGUMENT names the key that is missing or says what this program does not do.
  static absl::StatusOr<PicturePreprocessing> Read(const std::string& folder, Defaults defaults);

  // Resized and cut as above, then (x/255 − mean) / deviation: [3, size, size], float32, CPU.
  torch::Tensor Apply(const io::Image& image) const;
  // [N, 3, size, size], in their order; at least one.
  torch::Tensor Apply(std::span<const io::Image> images) const;

  // INVALID_ARGUMENT names the folder unless `size` is its config.json's image_size.
  absl::Status CheckFits(const std::string& folder, int64_t image_size) const;
};

// `embed` of so many pictures at a time, which bounds memory: [N, …] in their order, float32, CPU. Throws NotFinite,
// which says `what`, when a value is none.
torch::Tensor EmbedInParts(std::span<const io::Image> images, size_t most, const std::string& what,
                           const std::function<torch::Tensor(std::span<const io::Image>)>& embed);

}  // namespace loupe::worker::models
