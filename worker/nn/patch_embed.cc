#include "worker/nn/patch_embed.h"

#include <torch/utils.h>

#include <cmath>

namespace loupe::worker::nn {
namespace {

// [places] → [places, width], float64.
torch::Tensor Waves(const torch::Tensor& places, int64_t width) {
  const auto index = torch::arange(width / 2, torch::kFloat64) / (static_cast<double>(width) / 2);
  const auto angles = torch::outer(places, torch::exp(-std::log(10000.0) * index));
  return torch::cat({angles.sin(), angles.cos()}, 1);
}

torch::Tensor Coordinates(int64_t count, int64_t trained, PositionScaling scaling) {
  torch::Tensor places = torch::arange(count, torch::kFloat64);
  if (scaling == PositionScaling::kCounted || count == trained) return places;
  return places * (static_cast<double>(trained) / static_cast<double>(count));
}

}  // namespace

torch::Tensor GridPositions(int64_t rows, int64_t columns, int64_t width, int64_t trained_rows, int64_t trained_columns,
                            PositionScaling scaling) {
  TORCH_CHECK(width % 4 == 0, "the width of positions is a multiple of 4, not ", width);
  torch::NoGradGuard no_grad;
  const auto across = Waves(Coordinates(columns, trained_columns, scaling), width / 2);
  const auto down = Waves(Coordinates(rows, trained_rows, scaling), width / 2);
  return torch::cat({across.unsqueeze(0).expand({rows, columns, width / 2}),
                     down.unsqueeze(1).expand({rows, columns, width / 2})},
                    2)
      .reshape({rows * columns, width})
      .to(torch::kFloat32);
}

torch::Tensor KeptGridPositions::For(int64_t rows, int64_t columns, PositionScaling scaling,
                                     const torch::Tensor& like) {
  const std::lock_guard lock(mutex_);
  if (const Grid wanted{rows, columns, scaling}; grid_ != wanted) {
    places_ = runtime::DeviceTable(
        GridPositions(rows, columns, width_, trained_rows_, trained_columns_, scaling).unsqueeze(0));
    grid_ = wanted;
  }
  return places_.On(like.device()).to(like.scalar_type());
}

PatchEmbedImpl::PatchEmbedImpl(int64_t channels, int64_t width, int64_t patch, int64_t trained_side)
    : patch_(patch),
      places_(width, trained_side, trained_side),
      proj_(register_module("proj", Conv2d(channels, width, /*kernel=*/patch, /*stride=*/patch))) {}

torch::Tensor PatchEmbedImpl::forward(const torch::Tensor& x, PositionScaling scaling) {
  TORCH_CHECK(x.size(2) % patch_ == 0 && x.size(3) % patch_ == 0, "latents of ", x.size(2), "×", x.size(3),
              " cannot be cut into patches of ", patch_, "×", patch_);
  const auto tokens = proj_(x).flatten(2).transpose(1, 2);
  return tokens + places_.For(x.size(2) / patch_, x.size(3) / patch_, scaling, tokens);
}

}  // namespace loupe::worker::nn
