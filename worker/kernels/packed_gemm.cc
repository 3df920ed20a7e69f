#include "worker/kernels/packed_gemm.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>

#include "worker/kernels/vector.h"

namespace loupe::worker::kernels {
namespace {

constexpr int64_t kRows = 6;   // with two vectors of columns: twelve sums, two of B and one of A in sixteen registers
constexpr int64_t kLine = 16;  // floats

// What a tile fetches into the cache while it multiplies: a line or two at `from`, and `step` floats further for each
// number of K.
struct Fetch {
  const float* from;
  int64_t step;
};

// R rows of A by one panel of B: `columns` ≤ 2W of C.
template <int64_t W, int R>
LOUPE_INLINE void MultiplyTile(const float* a, int64_t a_stride, const float* panel, int64_t k, const float* bias,
                               float* c, int64_t c_stride, int64_t columns, Fetch fetch) {
  Vec<W> sums[R][2] = {};
  for (int64_t i = 0; i < k; ++i, panel += 2 * W, fetch.from += fetch.step) {
#pragma GCC unroll 2
    for (int64_t line = 0; line < 2 * W; line += kLine) __builtin_prefetch(fetch.from + line);
    const Vec<W> b0 = Load<W>(panel), b1 = Load<W>(panel + W);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const Vec<W> x = All<W>(a[r * a_stride + i]);
      sums[r][0] += x * b0;
      sums[r][1] += x * b1;
    }
  }
  if (columns == 2 * W) {  // by itself, as the sums then stay in their registers
    const Vec<W> add0 = bias == nullptr ? Vec<W>{} : Load<W>(bias),
                 add1 = bias == nullptr ? Vec<W>{} : Load<W>(bias + W);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      Store<W>(c + r * c_stride, sums[r][0] + add0);
      Store<W>(c + r * c_stride + W, sums[r][1] + add1);
    }
    return;
  }
  for (int64_t half = 0; half * W < columns; ++half) {
    const int64_t first = half * W, count = std::min(W, columns - first);
    const Vec<W> add = bias == nullptr ? Vec<W>{} : LoadFirst<W>(bias + first, count);
    for (int r = 0; r < R; ++r) StoreFirst<W>(c + r * c_stride + first, sums[r][half] + add, count);
  }
}

// The same for 1 to kRows rows.
template <int64_t W, int R = kRows>
LOUPE_INLINE void MultiplyRows(int64_t rows, const float* a, int64_t a_stride, const float* panel, int64_t k,
                               const float* bias, float* c, int64_t c_stride, int64_t columns, Fetch fetch) {
  if (rows == R) {
    MultiplyTile<W, R>(a, a_stride, panel, k, bias, c, c_stride, columns, fetch);
  } else if constexpr (R > 1) {
    MultiplyRows<W, R - 1>(rows, a, a_stride, panel, k, bias, c, c_stride, columns, fetch);
  }
}

template <int64_t W>
LOUPE_INLINE void MultiplyWith(const float* a, int64_t a_stride, int64_t rows, const PackedMatrix& b, const float* bias,
                               float* c, int64_t c_stride, int64_t matrix) {
  const int64_t k = b.k(), panel_size = 2 * W * k;
  // So many rows of A stay in the second cache while all panels pass.
  const int64_t block = std::max<int64_t>(kRows, (32768 / std::max<int64_t>(k, 1)) / kRows * kRows);
  for (int64_t first = 0; first < rows; first += block) {
    const int64_t end = std::min(rows, first + block);
    const float* panel = b.panels(matrix);
    for (int64_t n = 0; n < b.n(); n += 2 * W, panel += panel_size) {
      const int64_t columns = std::min<int64_t>(2 * W, b.n() - n);
      const float* const own_bias = bias == nullptr ? nullptr : bias + n;
      // Tiles of nearly equal heights: fewer than four rows leave the units waiting for one another's sums.
      const int64_t tiles = (end - first + kRows - 1) / kRows;
      // The tiles fetch the next panel, each a part: with few rows a panel comes from memory more slowly than it is
      // multiplied, and all of that time is needed. After the last it is the next matrix's, or the first once more.
      const bool more = n + 2 * W < b.n() || matrix + 1 < b.count();
      const float* const next = more ? panel + panel_size : b.panels(matrix);
      const int64_t step = std::max<int64_t>(1, 2 * W / tiles);
      int64_t m = first;
      for (int64_t tile = 0; tile < tiles; ++tile) {
        const int64_t high = (end - m + tiles - tile - 1) / (tiles - tile);
        const int64_t fetched = std::min(tile * step * k, panel_size);
        MultiplyRows<W>(high, a + m * a_stride, a_stride, panel, k, own_bias, c + m * c_stride + n, c_stride, columns,
                        {next + fetched, fetched < panel_size ? step : 0});
        m += high;
      }
    }
  }
}

LOUPE_FOR_AVX2 void MultiplyAvx2(const float* a, int64_t a_stride, int64_t rows, const PackedMatrix& b,
                                 const float* bias, float* c, int64_t c_stride, int64_t matrix) {
  MultiplyWith<8>(a, a_stride, rows, b, bias, c, c_stride, matrix);
}

LOUPE_FOR_AVX512 void MultiplyAvx512(const float* a, int64_t a_stride, int64_t rows, const PackedMatrix& b,
                                     const float* bias, float* c, int64_t c_stride, int64_t matrix) {
  MultiplyWith<16>(a, a_stride, rows, b, bias, c, c_stride, matrix);
}

}  // namespace

AlignedFloats::AlignedFloats(int64_t count, Pages pages) {
  constexpr size_t kLine = 64, kLargePage = size_t{2} << 20;
  const size_t bytes = (static_cast<size_t>(count) * sizeof(float) + kLine - 1) / kLine * kLine;
  const bool large = pages == Pages::kLarge && bytes >= kLargePage;
  data_.reset(static_cast<float*>(std::aligned_alloc(large ? kLargePage : kLine, bytes)));
  if (data_ == nullptr && bytes > 0) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  // Refused where the system has none, which is as well.
  if (large) madvise(data_.get(), bytes, MADV_HUGEPAGE);
#endif
}

PackedMatrix::PackedMatrix(int64_t k, int64_t n, int64_t count) : k_(k), n_(n), count_(count) {
  const int64_t width = int64_t{2} * Width(), panels = (n + width - 1) / width;
  size_ = panels * width * k;
  panels_ = AlignedFloats(count * size_, AlignedFloats::Pages::kLarge);
}

PackedMatrix::PackedMatrix(const float* b, int64_t k, int64_t n, int64_t row_stride, int64_t column_stride)
    : PackedMatrix(k, n, 1) {
  const int64_t width = int64_t{2} * Width();
  float* to = panels_.get();
  for (int64_t first = 0; first < n; first += width) {
    for (int64_t i = 0; i < k; ++i) {
      for (int64_t j = first; j < first + width; ++j) *to++ = j < n ? b[i * row_stride + j * column_stride] : 0.0F;
    }
  }
}

void Multiply(const float* a, int64_t a_stride, int64_t rows, const PackedMatrix& b, const float* bias, float* c,
              int64_t c_stride, int64_t matrix) {
  (Width() == 16 ? MultiplyAvx512 : MultiplyAvx2)(a, a_stride, rows, b, bias, c, c_stride, matrix);
}

}  // namespace loupe::worker::kernels
