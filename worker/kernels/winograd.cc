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
template <int64_t W>
LOUPE_INLINE void TransformWeights(const DoubleVec<W> (&g)[3], DoubleVec<W> (&u)[kSide]) {
  constexpr double over_a = 1 / (2 * kA2 * (kA2 - kB2)), over_b = 1 / (2 * kB2 * (kB2 - kA2));
  const DoubleVec<W> even_a = g[0] + kA2 * g[2], odd_a = kA * g[1], even_b = g[0] + kB2 * g[2], odd_b = kB * g[1];
  u[0] = g[0];
  u[1] = over_a * (even_a + odd_a);
  u[2] = over_a * (even_a - odd_a);
  u[3] = over_b * (even_b + odd_b);
  u[4] = over_b * (even_b - odd_b);
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

struct Filters {
  const float* weights;
  std::array<int64_t, 4> strides;
};

// In double precision: the transform's rounding is then that of its result alone.
template <int64_t W>
LOUPE_INLINE void TransformFilters(const Filters& filters, PackedMatrix& products) {
  const int64_t in = products.k(), out = products.n();
  const auto [of_out, of_in, of_row, of_column] = filters.strides;
  const int64_t matrix = products.mutable_panels(1) - products.mutable_panels(0);
  for (int64_t o = 0; o < out; o += W) {
    float* const panel = products.mutable_panels(0) + o / (2 * W) * in * 2 * W + o % (2 * W);
    const bool last_half = o + W == out && o % (2 * W) == 0;
    for (int64_t i = 0; i < in; ++i) {
      const float* const g = filters.weights + o * of_out + i * of_in;
      DoubleVec<W> half[3][kSide];  // [column][row of G g]
      for (int x = 0; x < 3; ++x) {
        DoubleVec<W> column[3];
        for (int y = 0; y < 3; ++y) {
          Vec<W> taps;
          for (int lane = 0; lane < W; ++lane) taps[lane] = g[lane * of_out + y * of_row + x * of_column];
          column[y] = __builtin_convertvector(taps, DoubleVec<W>);
        }
        TransformWeights<W>(column, half[x]);
      }
      float* to = panel + i * 2 * W;
      for (int y = 0; y < kSide; ++y) {
        DoubleVec<W> u[kSide];
        TransformWeights<W>({half[0][y], half[1][y], half[2][y]}, u);
        for (int x = 0; x < kSide; ++x, to += matrix) {
          Store<W>(to, __builtin_convertvector(u[x], Vec<W>));
          if (last_half) Store<W>(to + W, Vec<W>{});
        }
      }
    }
  }
}

LOUPE_FOR_AVX2 void TransformAvx2(const Filters& filters, PackedMatrix& to) { TransformFilters<8>(filters, to); }
LOUPE_FOR_AVX512 void TransformAvx512(const Filters& filters, PackedMatrix& to) { TransformFilters<16>(filters, to); }

}  // namespace

WinogradWeights::WinogradWeights(const float* weights, int64_t out_channels, int64_t in_channels,
                                 std::array<int64_t, 4> strides)
    : products_(in_channels, out_channels, kPositions) {
  (Width() == 16 ? TransformAvx512 : TransformAvx2)({weights, strides}, products_);
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
