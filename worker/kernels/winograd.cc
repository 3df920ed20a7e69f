#include "worker/kernels/winograd.h"

#include <algorithm>

#include "worker/kernels/vector.h"

namespace loupe::worker::kernels {
namespace {

constexpr int kSide = 6, kOut = 4, kPositions = kSide * kSide;
// Tiles that pass through the 36 products together: their transformed pixels stay in the second cache, and each
// product's weights are read once for all of them.
constexpr int64_t kTiles = 24;

// The polynomials are interpolated at 0, ±a, ±b and infinity. The textbook's ±1 and ±2 lose twice as many digits: with
// ab = 1 the transforms' numbers are of like size, and 2/3 has the least error of the pairs tried (about 1.8 times the
// direct convolution's at 64 channels).
constexpr double kA = 2.0 / 3, kB = 1 / kA;
constexpr double kA2 = kA * kA, kB2 = kB * kB;

// Bᵀ d, of a column or row of six: the products of (x − p) over all points but one, point by point.
template <int64_t W>
LOUPE_INLINE void TransformInput(const Vec<W> (&d)[kSide], Vec<W> (&t)[kSide]) {
  constexpr auto a = static_cast<float>(kA), b = static_cast<float>(kB);
  constexpr auto a2 = static_cast<float>(kA2), b2 = static_cast<float>(kB2), both = static_cast<float>(kA2 + kB2);
  const Vec<W> even_a = d[4] - b2 * d[2], odd_a = a * d[3] - b * d[1];
  const Vec<W> even_b = d[4] - a2 * d[2], odd_b = b * d[3] - a * d[1];
  t[0] = d[0] - both * d[2] + d[4];
  t[1] = even_a + odd_a;
  t[2] = even_a - odd_a;
  t[3] = even_b + odd_b;
  t[4] = even_b - odd_b;
  t[5] = d[1] - both * d[3] + d[5];
}

// Aᵀ m: the points' powers.
template <int64_t W>
LOUPE_INLINE void TransformOutput(const Vec<W> (&m)[kSide], Vec<W> (&y)[kOut]) {
  constexpr auto a = static_cast<float>(kA), b = static_cast<float>(kB);
  constexpr auto a2 = static_cast<float>(kA2), b2 = static_cast<float>(kB2);
  constexpr auto a3 = static_cast<float>(kA * kA2), b3 = static_cast<float>(kB * kB2);
  const Vec<W> sum_a = m[1] + m[2], difference_a = m[1] - m[2];
  const Vec<W> sum_b = m[3] + m[4], difference_b = m[3] - m[4];
  y[0] = m[0] + sum_a + sum_b;
  y[1] = a * difference_a + b * difference_b;
  y[2] = a2 * sum_a + b2 * sum_b;
  y[3] = a3 * difference_a + b3 * difference_b + m[5];
}

// G g, of a column or row of three: the filter's polynomial at each point, over the product of its distances.
void TransformWeights(const double (&g)[3], double (&u)[kSide]) {
  const auto at = [&](double point, double distances) { return (g[0] + point * (g[1] + point * g[2])) / distances; };
  u[0] = g[0];
  u[1] = at(kA, 2 * kA2 * (kA2 - kB2));
  u[2] = at(-kA, 2 * kA2 * (kA2 - kB2));
  u[3] = at(kB, 2 * kB2 * (kB2 - kA2));
  u[4] = at(-kB, 2 * kB2 * (kB2 - kA2));
  u[5] = g[2];
}

struct Tile {
  int64_t picture, top, left;  // of its 4×4 pixels
};

Tile TileAt(int64_t index, int64_t height, int64_t width) {
  const int64_t across = (width + kOut - 1) / kOut, down = (height + kOut - 1) / kOut;
  return {index / (across * down), index / across % down * kOut, index % across * kOut};
}

// From one position's numbers to the next one's: a line more than they take. A tile's 36 would else often lie a
// multiple of 4 KiB apart, which is one set of the first cache with room for eight.
constexpr int64_t Stride(int64_t tiles, int64_t channels) { return tiles * channels + 16; }

// from: the tile's 6×6 pixels' channels, zeros where it reaches over the picture's edge. transformed:
// [36][Stride(tiles, channels)].
template <int64_t W>
LOUPE_INLINE void GatherTile(const float* const (&from)[kSide][kSide], int64_t channels, float* transformed,
                             int64_t position_stride) {
  for (int64_t c = 0; c < channels; c += W) {
    Vec<W> half[kSide][kSide];  // [column][row of Bᵀ d]
    for (int j = 0; j < kSide; ++j) {
      Vec<W> d[kSide];
      for (int i = 0; i < kSide; ++i) d[i] = Load<W>(from[i][j] + c);
      TransformInput<W>(d, half[j]);
    }
    float* to = transformed + c;
    for (int i = 0; i < kSide; ++i) {
      Vec<W> d[kSide], t[kSide];
      for (int j = 0; j < kSide; ++j) d[j] = half[j][i];
      TransformInput<W>(d, t);
      for (int j = 0; j < kSide; ++j, to += position_stride) Store<W>(to, t[j]);
    }
  }
}

// to: the tile's 4×4 pixels' channels; what lies over the edge goes where nobody reads.
template <int64_t W>
LOUPE_INLINE void ScatterTile(const float* products, int64_t position_stride, const float* bias, int64_t channels,
                              float* const (&to)[kOut][kOut]) {
  for (int64_t c = 0; c < channels; c += W) {
    const float* from = products + c;
    Vec<W> half[kOut][kSide];  // [column of the result][row of the products]
    for (int i = 0; i < kSide; ++i) {
      Vec<W> m[kSide], t[kOut];
      for (int j = 0; j < kSide; ++j, from += position_stride) m[j] = Load<W>(from);
      TransformOutput<W>(m, t);
      for (int j = 0; j < kOut; ++j) half[j][i] = t[j];
    }
    const Vec<W> add = bias == nullptr ? Vec<W>{} : Load<W>(bias + c);
    for (int j = 0; j < kOut; ++j) {
      Vec<W> t[kOut];
      TransformOutput<W>(half[j], t);
      for (int i = 0; i < kOut; ++i) Store<W>(to[i][j] + c, t[i] + add);
    }
  }
}

// Where the channels of a tile's kPixels × kPixels pixels are, from `before` above and left of it on; `outside` for
// those that the picture does not have.
template <int kPixels, class Float>
void FindPixels(Float* pictures, int64_t height, int64_t width, int64_t channels, const Tile& tile, int64_t before,
                Float* outside, Float* (&pixels)[kPixels][kPixels]) {
  Float* const picture = pictures + tile.picture * height * width * channels;
  for (int64_t i = 0; i < kPixels; ++i) {
    for (int64_t j = 0; j < kPixels; ++j) {
      const int64_t row = tile.top + i - before, column = tile.left + j - before;
      const bool inside = row >= 0 && row < height && column >= 0 && column < width;
      pixels[i][j] = inside ? picture + (row * width + column) * channels : outside;
    }
  }
}

}  // namespace

WinogradWeights::WinogradWeights(const float* weights, int64_t out_channels, int64_t in_channels,
                                 std::array<int64_t, 4> strides) {
  const int64_t matrix = in_channels * out_channels;
  const AlignedFloats transformed(kPositions * matrix);
  for (int64_t o = 0; o < out_channels; ++o) {
    for (int64_t i = 0; i < in_channels; ++i) {
      double half[3][kSide];  // [column][row of G g]
      for (int x = 0; x < 3; ++x) {
        double g[3];
        for (int y = 0; y < 3; ++y) {
          g[y] = weights[o * strides[0] + i * strides[1] + y * strides[2] + x * strides[3]];
        }
        TransformWeights(g, half[x]);
      }
      float* to = transformed.get() + i * out_channels + o;
      for (int y = 0; y < kSide; ++y) {
        double u[kSide];
        TransformWeights({half[0][y], half[1][y], half[2][y]}, u);
        for (int x = 0; x < kSide; ++x, to += matrix) *to = static_cast<float>(u[x]);
      }
    }
  }
  products_ = PackedMatrix(transformed.get(), in_channels, out_channels, out_channels, 1, kPositions, matrix);
}

struct WinogradPass {
  const WinogradWeights& weights;
  const float* x;
  const float* bias;
  int64_t height, width;
  float* y;

  template <int64_t W>
  LOUPE_INLINE void Run(int64_t first, int64_t end) const {
    const int64_t in = weights.in_channels(), out = weights.out_channels();
    const int64_t most = std::min(kTiles, end - first);
    const AlignedFloats transformed(kPositions * Stride(most, in)), products(kPositions * Stride(most, out));
    const AlignedFloats zeros(in), unread(out);
    std::fill_n(zeros.get(), in, 0.0F);
    for (int64_t block = first; block < end; block += most) {
      const int64_t tiles = std::min(most, end - block), in_stride = Stride(tiles, in), out_stride = Stride(tiles, out);
      for (int64_t t = 0; t < tiles; ++t) {
        const float* pixels[kSide][kSide];
        FindPixels<kSide, const float>(x, height, width, in, TileAt(block + t, height, width), 1, zeros.get(), pixels);
        GatherTile<W>(pixels, in, transformed.get() + t * in, in_stride);
      }
      for (int64_t p = 0; p < kPositions; ++p) {
        Multiply(transformed.get() + p * in_stride, in, tiles, weights.products_, nullptr,
                 products.get() + p * out_stride, out, p);
      }
      for (int64_t t = 0; t < tiles; ++t) {
        float* pixels[kOut][kOut];
        FindPixels<kOut>(y, height, width, out, TileAt(block + t, height, width), 0, unread.get(), pixels);
        ScatterTile<W>(products.get() + t * out, out_stride, bias, out, pixels);
      }
    }
  }
};

namespace {

LOUPE_FOR_AVX2 void RunAvx2(const WinogradPass& pass, int64_t first, int64_t end) { pass.Run<8>(first, end); }
LOUPE_FOR_AVX512 void RunAvx512(const WinogradPass& pass, int64_t first, int64_t end) { pass.Run<16>(first, end); }

}  // namespace

void ConvolveTiles(const WinogradWeights& weights, const float* x, const float* bias, int64_t height, int64_t width,
                   int64_t first, int64_t end, float* y) {
  (Width() == 16 ? RunAvx512 : RunAvx2)({weights, x, bias, height, width, y}, first, end);
}

}  // namespace loupe::worker::kernels
