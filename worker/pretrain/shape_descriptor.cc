#include "worker/pretrain/shape_descriptor.h"

#include <torch/utils.h>

#include <algorithm>
#include <cmath>

#include "worker/pretrain/unit_rows.h"

namespace loupe::worker::pretrain {
namespace {

using torch::indexing::Ellipsis;
using torch::indexing::None;
using torch::indexing::Slice;

constexpr int64_t kOrientations = 8;
constexpr int64_t kEdgeCell = 8;
constexpr int64_t kAverageCell = 4;

torch::Tensor Padded(const torch::Tensor& x, int64_t left, int64_t right, int64_t top, int64_t bottom) {
  return torch::constant_pad_nd(x, {left, right, top, bottom});
}

// plane: [N, 1, H, W] → [N, 8·cells], the energy of edges by orientation in overlapping cells.
torch::Tensor EdgeHistogram(const torch::Tensor& plane) {
  const auto smooth = torch::avg_pool2d(torch::replication_pad2d(plane, {1, 1, 1, 1}), 3, 1);
  const auto across = smooth.index({Ellipsis, Slice(2, None)}) - smooth.index({Ellipsis, Slice(None, -2)});
  const auto down =
      smooth.index({Ellipsis, Slice(2, None), Slice()}) - smooth.index({Ellipsis, Slice(None, -2), Slice()});
  const auto gx = Padded(across, 1, 1, 0, 0) / 2, gy = Padded(down, 0, 0, 1, 1) / 2;
  const auto magnitude = (gx.square() + gy.square() + 1e-12).sqrt();
  const auto direction = torch::atan2(gy, gx);
  const auto bins = (torch::arange(kOrientations) * (M_PI / kOrientations)).view({1, -1, 1, 1}).to(plane.device());
  // Twice the angle: an edge from light to dark is the same as one from dark to light.
  const auto energy = torch::relu(torch::cos(2 * (direction - bins))).square() * magnitude.sqrt();
  const int64_t margin = kEdgeCell / 2;
  return torch::avg_pool2d(Padded(energy, margin, margin, margin, margin), 2 * kEdgeCell, kEdgeCell).flatten(1);
}

std::vector<torch::Tensor> Blocks(const torch::Tensor& pictures) {
  const auto ink = 1 - std::get<0>(pictures.min(1, /*keepdim=*/true));
  const auto silhouette = torch::sigmoid((ink - 0.08) * 40);
  const auto weights = torch::tensor({0.30F, 0.59F, 0.11F}).view({1, 3, 1, 1}).to(pictures.device());
  const auto brightness = (pictures * weights).sum(1, /*keepdim=*/true);
  return {torch::avg_pool2d(silhouette, kAverageCell).flatten(1), EdgeHistogram(brightness), EdgeHistogram(silhouette),
          torch::avg_pool2d(pictures, kAverageCell).flatten(1)};
}

}  // namespace

ShapeDescriptor::ShapeDescriptor(const torch::Tensor& pictures, int64_t dimensions) {
  torch::NoGradGuard no_grad;
  std::vector<std::vector<torch::Tensor>> parts(4);
  for (const auto& some : pictures.split(256)) {
    const auto blocks = Blocks(some);
    for (size_t i = 0; i < blocks.size(); ++i) parts[i].push_back(blocks[i]);
  }
  for (const auto& part : parts) {
    const auto block = torch::cat(part);
    means_.push_back(block.mean(0));
    scales_.push_back(std::max(1e-6, (block - means_.back()).square().sum(1).mean().sqrt().item<double>()));
  }
  std::vector<torch::Tensor> joined;
  for (const auto& some : pictures.split(256)) joined.push_back(Joined(some));
  const auto rows = torch::cat(joined).cpu();  // so that axes point the same way on every device
  const auto axes = std::get<2>(torch::linalg_svd(rows, /*full_matrices=*/false)).t();  // [d, min(N, d)]
  axes_ = torch::zeros({rows.size(1), dimensions});
  const int64_t kept = std::min(dimensions, axes.size(1));
  axes_.slice(1, 0, kept).copy_(axes.slice(1, 0, kept));
  axes_ = axes_.to(pictures.device());
}

torch::Tensor ShapeDescriptor::Joined(const torch::Tensor& pictures) const {
  auto blocks = Blocks(pictures);
  for (size_t i = 0; i < blocks.size(); ++i) blocks[i] = (blocks[i] - means_[i]) / scales_[i];
  return UnitRows(torch::cat(blocks, 1));
}

torch::Tensor ShapeDescriptor::Describe(const torch::Tensor& pictures) const {
  torch::NoGradGuard no_grad;
  return UnitRows(torch::mm(Joined(pictures), axes_));
}

}  // namespace loupe::worker::pretrain
