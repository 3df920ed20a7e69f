#include "worker/kernels/packed_gemm.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>

#include "worker/kernels/vector.h"

namespace loupe::worker::kernels {
namespace {

// Panels are fetched so many floats ahead: from the last cache or memory they come slower than they are multiplied.
constexpr int64_t kAhead = 256;

constexpr int64_t kRows = 6;  // with two vectors of columns: twelve sums, two of B and one of A in sixteen registers

// R rows of A by one panel of B: `columns` ≤ 2W of C.
template <int64_t W, int R>
LOUPE_INLINE void MultiplyTile(const float* a, int64_t a_stride, const float* panel, int64_t k, const float* bias,
                               float* c, int64_t c_stride, int64_t columns) {
  Vec<W> sums[R][2] = {};
  for (int64_t i = 0; i < k; ++i) {
    __builtin_prefetch(panel + i * 2 * W + kAhead);
    const Vec<W> b0 = Load<W>(panel + i * 2 * W), b1 = Load<W>(panel + i * 2 * W + W);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const Vec<W> x = All<W>(a[r * a_stride + i]);
      sums[r][0] += x * b0;
      sums[r][1] += x * b1;
    }
  }
  const bool whole = columns == 2 * W;
  const int64_t first = std::min<int64_t>(columns, W), second = columns - first;
  Vec<W> add0{}, add1{};
  if (bias != nullptr) {
    add0 = first == W ? Load<W>(bias) : LoadFirst<W>(bias, first);
    add1 = second == W ? Load<W>(bias + W) : LoadFirst<W>(bias + first, second);
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
    float* const to = c + r * c_stride;
    const Vec<W> y0 = sums[r][0] + add0, y1 = sums[r][1] + add1;
    if (whole) {
      Store<W>(to, y0);
      Store<W>(to + W, y1);
    } else {
      StoreFirst<W>(to, y0, first);
      StoreFirst<W>(to + first, y1, second);
    }
  }
}

// The same for 1 to kRows rows.
template <int64_t W, int R = kRows>
LOUPE_INLINE void MultiplyRows(int64_t rows, const float* a, int64_t a_stride, const float* panel, int64_t k,
                               const float* bias, float* c, int64_t c_stride, int64_t columns) {
  if (rows == R) {
    MultiplyTile<W, R>(a, a_stride, panel, k, bias, c, c_stride, columns);
  } else if constexpr (R > 1) {
    MultiplyRows<W, R - 1>(rows, a, a_stride, panel, k, bias, c, c_stride, columns);
  }
}

template <int64_t W>
LOUPE_INLINE void MultiplyWith(const float* a, int64_t a_stride, int64_t rows, const PackedMatrix& b, const float* bias,
                               float* c, int64_t c_stride, int64_t matrix) {
  // So many rows of A stay in the second cache while all panels pass.
  const int64_t block = std::max<int64_t>(kRows, (32768 / std::max<int64_t>(b.k(), 1)) / kRows * kRows);
  for (int64_t first = 0; first < rows; first += block) {
    const int64_t end = std::min(rows, first + block);
    for (int64_t n = 0; n < b.n(); n += 2 * W) {
      const float* const panel = b.panels(matrix) + n * b.k();
      const int64_t columns = std::min<int64_t>(2 * W, b.n() - n);
      const float* const own_bias = bias == nullptr ? nullptr : bias + n;
      // Tiles of nearly equal heights: fewer than four rows leave the units waiting for one another's sums.
      int64_t tiles = (end - first + kRows - 1) / kRows;
      for (int64_t m = first; m < end; --tiles) {
        const int64_t high = (end - m + tiles - 1) / tiles;
        MultiplyRows<W>(high, a + m * a_stride, a_stride, panel, b.k(), own_bias, c + m * c_stride + n, c_stride,
                        columns);
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

PackedMatrix::PackedMatrix(const float* b, int64_t k, int64_t n, int64_t row_stride, int64_t column_stride,
                           int64_t count, int64_t matrix_stride)
    : k_(k), n_(n) {
  const int64_t width = int64_t{2} * Width(), panels = (n + width - 1) / width;
  size_ = panels * width * k;
  panels_ = AlignedFloats(count * size_, AlignedFloats::Pages::kLarge);
  float* to = panels_.get();
  for (int64_t matrix = 0; matrix < count; ++matrix, b += matrix_stride) {
    for (int64_t panel = 0; panel < panels; ++panel) {
      for (int64_t i = 0; i < k; ++i) {
        for (int64_t j = panel * width; j < (panel + 1) * width; ++j) {
          *to++ = j < n ? b[i * row_stride + j * column_stride] : 0.0F;
        }
      }
    }
  }
}

void Multiply(const float* a, int64_t a_stride, int64_t rows, const PackedMatrix& b, const float* bias, float* c,
              int64_t c_stride, int64_t matrix) {
  (Width() == 16 ? MultiplyAvx512 : MultiplyAvx2)(a, a_stride, rows, b, bias, c, c_stride, matrix);
}

}  // namespace loupe::worker::kernels
