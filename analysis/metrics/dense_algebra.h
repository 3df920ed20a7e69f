// The few dense operations that the scores need, on row-major double matrices, by the BLAS and LAPACK of OpenBLAS.
#pragma once

#include <cstdint>
#include <vector>

#include "analysis/metrics/feature_matrix.h"

namespace loupe::analysis {

// rows × cols, row-major.
struct DenseMatrix {
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<double> values;

  DenseMatrix() = default;
  DenseMatrix(int64_t row_count, int64_t col_count)
      : rows(row_count), cols(col_count), values(static_cast<size_t>(row_count * col_count), 0.0) {}
  double* Row(int64_t row) { return values.data() + row * cols; }
  const double* Row(int64_t row) const { return values.data() + row * cols; }
};

// Rows [begin, end) as doubles.
DenseMatrix ToDense(const FeatureMatrix& features, int64_t begin, int64_t end);
inline DenseMatrix ToDense(const FeatureMatrix& features) { return ToDense(features, 0, features.rows); }

std::vector<double> ColumnMeans(const FeatureMatrix& features);

// A·Bᵀ: [a.rows, b.rows]. Precondition: a.cols == b.cols.
DenseMatrix TimesTransposed(const DenseMatrix& a, const DenseMatrix& b);

// Adds AᵀA to the lower triangle of `sum` [a.cols, a.cols] (as column-major: LAPACK's 'L').
void AddGram(const DenseMatrix& a, DenseMatrix& sum);

// F with FᵀF = `gram`, whose lower triangle is read as AddGram leaves it; F has as many rows as `gram` has rank. A
// Cholesky factor; by complete pivoting where `gram` is singular to rounding.
DenseMatrix FactorOfGram(DenseMatrix gram);

// Sum of the singular values of A (its nuclear norm).
double SumOfSingularValues(DenseMatrix a);

}  // namespace loupe::analysis
