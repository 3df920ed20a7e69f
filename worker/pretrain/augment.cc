#include "worker/pretrain/augment.h"

#include <torch/nn/functional.h>

#include <array>
#include <cmath>
#include <vector>

namespace loupe::worker::pretrain {
namespace {

namespace F = torch::nn::functional;
using torch::indexing::Slice;

// Draws are the CPU's whatever the device.
torch::Tensor Uniform(at::IntArrayRef shape, double low, double high, at::Generator& random) {
  return torch::rand(shape, random) * (high - low) + low;
}

// [N] of 0 and 1.
torch::Tensor Chance(int64_t n, double share, at::Generator& random) { return torch::rand({n}, random) < share; }

// Coordinates in [−1, 1], each [1, H, W].
std::array<torch::Tensor, 2> Grid(const torch::Tensor& pictures) {
  const auto y = torch::linspace(-1, 1, pictures.size(2)).view({1, -1, 1});
  const auto x = torch::linspace(-1, 1, pictures.size(3)).view({1, 1, -1});
  return {x, y};
}

}  // namespace

torch::Tensor RandomAffine(const torch::Tensor& pictures, double angle, double scale, double shift,
                           at::Generator& random) {
  const int64_t n = pictures.size(0);
  const auto turn = Uniform({n}, -angle, angle, random);
  const auto size = torch::exp(Uniform({n}, -scale, scale, random));
  const auto aspect = torch::exp(Uniform({n}, -0.15, 0.15, random));
  const auto moves = Uniform({n, 2}, -shift, shift, random);
  const auto c = torch::cos(turn) / size, s = torch::sin(turn) / size;
  const auto matrix = torch::stack({torch::stack({c * aspect, -s, moves.index({Slice(), 0})}, 1),
                                    torch::stack({s * aspect, c, moves.index({Slice(), 1})}, 1)},
                                   1);
  const auto grid = F::affine_grid(matrix.to(pictures.device()), pictures.sizes(), /*align_corners=*/false);
  const auto options =
      F::GridSampleFuncOptions().mode(torch::kBilinear).padding_mode(torch::kZeros).align_corners(false);
  return 1 - F::grid_sample(1 - pictures, grid, options);
}

torch::Tensor RandomColours(const torch::Tensor& pictures, double strong, at::Generator& random) {
  const int64_t n = pictures.size(0);
  const auto gentle = torch::eye(3).unsqueeze(0) + 0.06 * torch::randn({n, 3, 3}, random);
  const auto mixed = torch::softmax(2 * torch::randn({n, 3, 3}, random), -1) * Uniform({n, 1, 1}, 0.7, 1.2, random);
  const auto grey = torch::tensor({0.30F, 0.59F, 0.11F}).expand({n, 3, 3});
  const auto which = torch::rand({n, 1, 1}, random);
  auto matrix = torch::where(which < 0.6 * strong, mixed, gentle);
  matrix = torch::where(which.ge(0.6 * strong).logical_and(which < strong), grey, matrix);
  const auto ink = torch::bmm(matrix.to(pictures.device()), (1 - pictures).flatten(2));
  return 1 - ink.clamp(0, 1).view(pictures.sizes());
}

torch::Tensor TransplantMiddles(const torch::Tensor& pictures, const torch::Tensor& donors, double share,
                                at::Generator& random) {
  const int64_t n = pictures.size(0);
  const auto [x, y] = Grid(pictures);
  const auto radius = Uniform({n, 1, 1}, 0.25, 0.5, random);
  const auto centre_x = Uniform({n, 1, 1}, -0.15, 0.15, random);
  const auto centre_y = Uniform({n, 1, 1}, -0.05, 0.25, random);
  const auto inside = (x - centre_x).square() + (y - centre_y).square() < radius.square();
  const auto mask = inside.logical_and(Chance(n, share, random).view({n, 1, 1}));
  return torch::where(mask.unsqueeze(1).to(pictures.device()), donors, pictures);
}

torch::Tensor EraseRectangles(const torch::Tensor& pictures, double share, at::Generator& random) {
  const int64_t n = pictures.size(0);
  const auto [x, y] = Grid(pictures);
  const auto half_width = Uniform({n, 1, 1}, 0.1, 0.45, random), half_height = Uniform({n, 1, 1}, 0.1, 0.45, random);
  const auto centre_x = Uniform({n, 1, 1}, -1, 1, random), centre_y = Uniform({n, 1, 1}, -1, 1, random);
  const auto inside = ((x - centre_x).abs() < half_width).logical_and((y - centre_y).abs() < half_height);
  const auto mask = inside.logical_and(Chance(n, share, random).view({n, 1, 1}));
  return torch::where(mask.unsqueeze(1).to(pictures.device()), torch::ones({}, pictures.options()), pictures);
}

torch::Tensor RandomBlur(const torch::Tensor& pictures, double share, at::Generator& random) {
  const auto half = torch::avg_pool2d(pictures, 2);
  const auto options = F::InterpolateFuncOptions()
                           .size(std::vector<int64_t>{pictures.size(2), pictures.size(3)})
                           .mode(torch::kBilinear)
                           .align_corners(false);
  const auto blurred = F::interpolate(half, options);
  const auto mask = Chance(pictures.size(0), share, random).view({-1, 1, 1, 1});
  return torch::where(mask.to(pictures.device()), blurred, pictures);
}

torch::Tensor FlipRollPermute(const torch::Tensor& pictures, at::Generator& random) {
  const int64_t n = pictures.size(0), height = pictures.size(2), width = pictures.size(3), reach = width / 8;
  const auto flips = Chance(n, 0.5, random).view({n, 1});
  const auto shifts = torch::randint(-reach, reach + 1, {n, 2}, random, torch::kInt64);
  const auto channels = torch::rand({n, 3}, random).argsort(int64_t{1}).view({n, 3, 1, 1});
  // Where each row and each column comes from: one look-up for the whole batch, since a device starts it once.
  const auto y = (torch::arange(height) - shifts.slice(1, 0, 1)).remainder(height).view({n, 1, height, 1});
  const auto x = (torch::arange(width) - shifts.slice(1, 1, 2)).remainder(width);
  const auto from = torch::where(flips, width - 1 - x, x).view({n, 1, 1, width});
  const auto rows = torch::arange(n).view({n, 1, 1, 1});
  const auto device = pictures.device();
  return pictures.index({rows.to(device), channels.to(device), y.to(device), from.to(device)});
}

}  // namespace loupe::worker::pretrain
