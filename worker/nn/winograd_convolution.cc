#include "worker/nn/winograd_convolution.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>

namespace loupe::worker::nn {
namespace {

constexpr int64_t kMostFilters = int64_t{1} << 16;

}  // namespace

bool WinogradTakes(const torch::Tensor& weight) {
  return weight.is_cpu() && weight.scalar_type() == torch::kFloat32 && weight.numel() > 0 &&
         weight.numel() <= 9 * kMostFilters && kernels::WinogradWeights::Takes(weight.size(1), weight.size(0));
}

kernels::WinogradWeights WinogradOf(const torch::Tensor& weight) {
  return {weight.const_data_ptr<float>(),
          weight.size(0),
          weight.size(1),
          {weight.stride(0), weight.stride(1), weight.stride(2), weight.stride(3)}};
}

kernels::WinogradWeights TurnedWinogradOf(const torch::Tensor& weight) {
  const float* const last = weight.const_data_ptr<float>() + 2 * weight.stride(2) + 2 * weight.stride(3);
  return {
      last, weight.size(1), weight.size(0), {weight.stride(1), weight.stride(0), -weight.stride(2), -weight.stride(3)}};
}

torch::Tensor Convolved(const torch::Tensor& x, const kernels::WinogradWeights& weights, const torch::Tensor& bias) {
  const torch::Tensor pictures = x.contiguous(at::MemoryFormat::ChannelsLast);
  const int64_t height = x.size(2), width = x.size(3);
  torch::Tensor y =
      torch::empty({x.size(0), weights.out_channels(), height, width}, x.options(), at::MemoryFormat::ChannelsLast);
  const float* const from = pictures.const_data_ptr<float>();
  const float* const add = bias.defined() ? bias.const_data_ptr<float>() : nullptr;
  float* const to = y.mutable_data_ptr<float>();
  constexpr int64_t kGrain = 12;
  at::parallel_for(0, x.size(0) * kernels::WinogradTiles(height, width), kGrain, [&](int64_t first, int64_t end) {
    kernels::ConvolveTiles(weights, from, add, height, width, first, end, to);
  });
  return y;
}

// Σ over pixels of d_y ⊗ the 3×3 pixels of x around: one matrix product with the pixels' surroundings side by side, for
// so many pictures at a time that these stay in the caches.
torch::Tensor ConvolutionWeightGradient(const torch::Tensor& x, const torch::Tensor& d_y) {
  constexpr int64_t kMostNumbers = int64_t{1} << 20;
  const int64_t pictures = x.size(0), in = x.size(1), height = x.size(2), width = x.size(3), out = d_y.size(1);
  const int64_t parts = std::min(pictures, 1 + pictures * height * width * 9 * in / kMostNumbers);
  const torch::Tensor of_y = d_y.contiguous(at::MemoryFormat::ChannelsLast).permute({0, 2, 3, 1});
  torch::Tensor sum;
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t first = part * pictures / parts, count = (part + 1) * pictures / parts - first;
    const torch::Tensor padded = torch::zeros({count, height + 2, width + 2, in}, x.options());
    padded.narrow(1, 1, height).narrow(2, 1, width).copy_(x.narrow(0, first, count).permute({0, 2, 3, 1}));
    const int64_t line = (width + 2) * in;
    const torch::Tensor around =
        padded.as_strided({count, height, width, 3, 3 * in}, {(height + 2) * line, line, in, line, 1})
            .reshape({-1, 9 * in});
    const torch::Tensor rows = of_y.narrow(0, first, count).reshape({-1, out}).t();
    sum = sum.defined() ? torch::addmm(sum, rows, around) : torch::mm(rows, around);
  }
  return sum.view({out, 3, 3, in}).permute({0, 3, 1, 2});
}

}  // namespace loupe::worker::nn
