// Pictures as sequences for transformers, and where each place of them is.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <mutex>

#include "worker/nn/leaf_layers.h"
#include "worker/runtime/device_table.h"

namespace loupe::worker::nn {

// What the coordinates of a picture's places are when it is not of the size that the network was trained on.
enum class PositionScaling {
  // The trained range is stretched over the picture: at twice the size, coordinates 0, ½, 1, 1½, … (diffusers'; the
  // positional-encoding trick of DiffFit, arXiv 2304.06648 §3.4).
  kTrainedRange,
  // 0, 1, 2, … whatever the size (DiT's own code).
  kCounted,
};

// Fixed sines and cosines of the places of a grid, [rows · columns, width], float32, row by row: the first half of
// each row tells the column, the second half the row, each as sin(p ω_i), cos(p ω_i), ω_i = 10000^(−i/(width/4))
// (the 2-D form of Vaswani et al., as in MAE, arXiv 2111.06377). `trained_rows` and `trained_columns` are the size that
// kTrainedRange stretches. `width` is a multiple of 4.
torch::Tensor GridPositions(int64_t rows, int64_t columns, int64_t width, int64_t trained_rows, int64_t trained_columns,
                            PositionScaling scaling);

// GridPositions of a network's last grid, kept for the passes that follow. Thread-safe.
class KeptGridPositions {
 public:
  KeptGridPositions(int64_t width, int64_t trained_rows, int64_t trained_columns)
      : width_(width), trained_rows_(trained_rows), trained_columns_(trained_columns) {}

  // [1, rows · columns, width], on the device of `like` and in its type.
  torch::Tensor For(int64_t rows, int64_t columns, PositionScaling scaling, const torch::Tensor& like);

 private:
  struct Grid {
    int64_t rows = 0, columns = 0;
    PositionScaling scaling = PositionScaling::kTrainedRange;
    bool operator==(const Grid&) const = default;
  };

  const int64_t width_, trained_rows_, trained_columns_;
  std::mutex mutex_;
  Grid grid_;
  runtime::DeviceTable places_;
};

// The patches of a picture, each through the same linear layer: a convolution whose stride is its kernel. Key: proj.
class PatchEmbedImpl : public torch::nn::Module {
 public:
  // `trained_side`: patches along each side of the pictures that the network was trained on.
  PatchEmbedImpl(int64_t channels, int64_t width, int64_t patch, int64_t trained_side);

  // x: [N, channels, H, W], H and W multiples of the patch → [N, H/patch · W/patch, width], places added.
  torch::Tensor forward(const torch::Tensor& x, PositionScaling scaling);

 private:
  const int64_t patch_;
  KeptGridPositions places_;
  Conv2d proj_{nullptr};
};
TORCH_MODULE(PatchEmbed);

}  // namespace loupe::worker::nn
