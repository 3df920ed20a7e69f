// The few dense operations that the scores need, on row-major double matrices, by the BLAS and LAPACK of OpenBLAS.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/metrics/feature_matrix.h"

namespace loupe::analysis::metrics {

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

// Each row over its length. InvalidArgument for a row of zeros, which has no direction: it names row and `what`.
absl::StatusOr<DenseMatrix> UnitRows(const FeatureMatrix& features, const char* what);

// Rows [begin, end) of a matrix.
DenseMatrix RowsOf(const DenseMatrix& matrix, int64_t begin, int64_t end);

std::vector<double> ColumnSums(const FeatureMatrix& features);

// Takes `mean` from each row.
void Centre(DenseMatrix& matrix, const std::vector<double>& mean);

double SumOfSquares(const DenseMatrix& matrix);

// A·Bᵀ: [a.rows, b.rows]. Precondition: a.cols == b.cols.
DenseMatrix TimesTransposed(const DenseMatrix& a, const DenseMatrix& b);

// Adds AᵀA to the lower triangle of `sum` [a.cols, a.cols] (as column-major: LAPACK's 'L').
void AddGram(const DenseMatrix& a, DenseMatrix& sum);

// F with FᵀF = `gram`, whose lower triangle is read as AddGram leaves it; F has as many rows as `gram` has rank. A
// Cholesky factor; by complete pivoting where `gram` is singular to rounding.
DenseMatrix FactorOfGram(DenseMatrix gram);

// Sum of the singular values of A (its nuclear norm).
double SumOfSingularValues(DenseMatrix a);

}  // namespace loupe::analysis::metrics
