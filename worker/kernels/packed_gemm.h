// Matrix products with one frozen factor, laid out once for the processor.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>

namespace loupe::worker::kernels {

// Floats at 64-byte boundaries, uninitialised. Throws std::bad_alloc.
class AlignedFloats {
 public:
  enum class Pages { kOrdinary, kLarge };

  AlignedFloats() = default;
  // kLarge: for what is written once and then read over and over. Memory is asked for in pages of 2 MiB where it fills
  // one, so that reading it waits less often for addresses, or for the processor's prefetching, which ends at a page's
  // end.
  explicit AlignedFloats(int64_t count, Pages pages = Pages::kOrdinary);
  float* get() const { return data_.get(); }

 private:
  struct Free {
    void operator()(float* data) const { std::free(data); }
  };
  std::unique_ptr<float[], Free> data_;
};

// B [K, N], or `count` of them, in panels of two vectors' columns; columns that fill the last panel are 0.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  // To be filled by mutable_panels().
  PackedMatrix(int64_t k, int64_t n, int64_t count);
  // B[k][n] = b[k · row_stride + n · column_stride].
  PackedMatrix(const float* b, int64_t k, int64_t n, int64_t row_stride, int64_t column_stride);
  int64_t k() const { return k_; }
  int64_t n() const { return n_; }
  int64_t count() const { return count_; }
  // The next matrix's follow.
  const float* panels(int64_t matrix = 0) const { return panels_.get() + matrix * size_; }
  // B[k][n] is number (n / 2W · K + k) · 2W + n mod 2W.
  float* mutable_panels(int64_t matrix) { return panels_.get() + matrix * size_; }

 private:
  int64_t k_ = 0, n_ = 0, count_ = 0;
  int64_t size_ = 0;  // of one matrix's panels
  AlignedFloats panels_;
};

// C [M, N] = A [M, K] · B (+ bias [N] in each row, where it is not null). `a_stride` and `c_stride` are the distances
// of rows. Each number of C is one chain of fused products in the order of K, whatever M is. `matrix`: which B.
void Multiply(const float* a, int64_t a_stride, int64_t rows, const PackedMatrix& b, const float* bias, float* c,
              int64_t c_stride, int64_t matrix = 0);

}  // namespace loupe::worker::kernels
