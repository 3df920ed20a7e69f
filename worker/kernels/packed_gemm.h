// Matrix products with one frozen factor, laid out once for the processor.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

namespace loupe::worker::kernels {

// Floats at 64-byte boundaries, uninitialised.
class AlignedFloats {
 public:
  AlignedFloats() = default;
  explicit AlignedFloats(int64_t count)
      : data_(static_cast<float*>(::operator new[](static_cast<size_t>(count) * sizeof(float), std::align_val_t{64}))) {
  }
  float* get() const { return data_.get(); }

 private:
  struct Free {
    void operator()(float* data) const { ::operator delete[](data, std::align_val_t{64}); }
  };
  std::unique_ptr<float[], Free> data_;
};

// B [K, N], in panels of two vectors' columns; columns that fill the last panel are 0. Immutable.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  // B[k][n] = b[k · row_stride + n · column_stride].
  PackedMatrix(const float* b, int64_t k, int64_t n, int64_t row_stride, int64_t column_stride);
  int64_t k() const { return k_; }
  int64_t n() const { return n_; }
  const float* panels() const { return panels_.get(); }

 private:
  int64_t k_ = 0, n_ = 0;
  AlignedFloats panels_;
};

// C [M, N] = A [M, K] · B (+ bias [N] in each row, where it is not null). `a_stride` and `c_stride` are the distances
// of rows. Each number of C is one chain of fused products in the order of K, whatever M is.
void Multiply(const float* a, int64_t a_stride, int64_t rows, const PackedMatrix& b, const float* bias, float* c,
              int64_t c_stride);

}  // namespace loupe::worker::kernels
