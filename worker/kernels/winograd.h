// 3×3 convolutions by Winograd's minimal filtering F(4×4, 3×3) (Lavin & Gray, "Fast Algorithms for Convolutional Neural
// Networks", arXiv 1509.09308, §4): a quarter of the direct convolution's products.
//
//   Y = Aᵀ [ Σ_channels (G g Gᵀ) ⊙ (Bᵀ d B) ] A     g: 3×3 weights, d: 6×6 pixels, Y: 4×4 pixels
//
// G g Gᵀ is made when a WinogradWeights is; the sums over channels are 36 matrix products over the tiles.
#pragma once

#include <array>
#include <cstdint>

#include "worker/kernels/packed_gemm.h"
#include "worker/kernels/vector.h"

namespace loupe::worker::kernels {

// Stride 1, zero padding 1. Immutable; used by any number of threads.
class WinogradWeights {
 public:
  // Whether there is a kernel for so many channels: multiples of W on both sides. Only with Width() > 0.
  static bool Takes(int64_t in_channels, int64_t out_channels) {
    return in_channels % Width() == 0 && out_channels % Width() == 0;
  }
  // g[o][i][y][x] = weights[o · strides[0] + i · strides[1] + y · strides[2] + x · strides[3]].
  WinogradWeights(const float* weights, int64_t out_channels, int64_t in_channels, std::array<int64_t, 4> strides);
  int64_t in_channels() const { return products_.k(); }
  int64_t out_channels() const { return products_.n(); }

 private:
  friend struct WinogradPass;
  PackedMatrix products_;  // 36
};

// Tiles of 4×4 pixels in each picture.
constexpr int64_t WinogradTiles(int64_t height, int64_t width) { return ((height + 3) / 4) * ((width + 3) / 4); }

// Convolves tiles first…end − 1 of all pictures' tiles, counted picture by picture and row by row. x: [pictures,
// height, width, in channels], y: the same with the out channels, both without gaps; bias may be null. Each tile's
// numbers are computed in the same order whatever the others are.
void ConvolveTiles(const WinogradWeights& weights, const float* x, const float* bias, int64_t height, int64_t width,
                   int64_t first, int64_t end, float* y);

}  // namespace loupe::worker::kernels
