#include "analysis/metrics/dense_algebra.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "fmt/format.h"

// The Fortran interface, declared here since that alone is the same in OpenBLAS, MKL and the reference libraries (the
// worker may get these names from LibTorch's MKL instead). Column-major; a row-major matrix is its transpose to them.
extern "C" {
void dgemm_(const char* trans_a, const char* trans_b, const int* m, const int* n, const int* k, const double* alpha,
            const double* a, const int* lda, const double* b, const int* ldb, const double* beta, double* c,
            const int* ldc);
void dsyrk_(const char* uplo, const char* trans, const int* n, const int* k, const double* alpha, const double* a,
            const int* lda, const double* beta, double* c, const int* ldc);
void dpotrf_(const char* uplo, const int* n, double* a, const int* lda, int* info);
void dpstrf_(const char* uplo, const int* n, double* a, const int* lda, int* piv, int* rank, const double* tol,
             double* work, int* info);
void dgesdd_(const char* jobz, const int* m, const int* n, double* a, const int* lda, double* s, double* u,
             const int* ldu, double* vt, const int* ldvt, double* work, const int* lwork, int* iwork, int* info);
void dsyevd_(const char* jobz, const char* uplo, const int* n, double* a, const int* lda, double* w, double* work,
             const int* lwork, int* iwork, const int* liwork, int* info);
}

namespace loupe::analysis::metrics {
namespace {

int Int(int64_t value) { return static_cast<int>(value); }

// From here on the singular values come from the eigenvalues of AAᵀ: half the work of a bidiagonalisation, and where
// both sets have more samples than dimensions no singular value is so small that squaring would hurt the sum.
constexpr int64_t kSquareFrom = 1024;

double SumOfSingularValuesBySvd(DenseMatrix a) {
  const int m = Int(a.cols), n = Int(a.rows), least = std::min(m, n), one = 1;
  std::vector<double> s(static_cast<size_t>(least));
  std::vector<int> iwork(static_cast<size_t>(8 * least));
  double size = 0, none = 0;
  int info = 0, query = -1;
  dgesdd_("N", &m, &n, a.values.data(), &m, s.data(), &none, &one, &none, &one, &size, &query, iwork.data(), &info);
  int lwork = static_cast<int>(size);
  std::vector<double> work(static_cast<size_t>(lwork));
  dgesdd_("N", &m, &n, a.values.data(), &m, s.data(), &none, &one, &none, &one, work.data(), &lwork, iwork.data(),
          &info);
  double sum = 0;
  for (auto it = s.rbegin(); it != s.rend(); ++it) sum += *it;  // smallest first
  return sum;
}

double SumOfSingularValuesBySquare(const DenseMatrix& a) {
  const bool wide = a.cols >= a.rows;
  const int n = Int(std::min(a.rows, a.cols)), k = Int(std::max(a.rows, a.cols)), lda = Int(a.cols);
  DenseMatrix square(n, n);
  const double one = 1, zero = 0;
  // a.values is Aᵀ to Fortran: AAᵀ is 'T' of it, AᵀA is 'N'.
  dsyrk_("L", wide ? "T" : "N", &n, &k, &one, a.values.data(), &lda, &zero, square.values.data(), &n);
  std::vector<double> eigenvalues(static_cast<size_t>(n));
  double size = 0;
  int isize = 0, info = 0, query = -1;
  dsyevd_("N", "L", &n, square.values.data(), &n, eigenvalues.data(), &size, &query, &isize, &query, &info);
  int lwork = static_cast<int>(size), liwork = isize;
  std::vector<double> work(static_cast<size_t>(lwork));
  std::vector<int> iwork(static_cast<size_t>(liwork));
  dsyevd_("N", "L", &n, square.values.data(), &n, eigenvalues.data(), work.data(), &lwork, iwork.data(), &liwork,
          &info);
  double sum = 0;
  for (double value : eigenvalues) sum += std::sqrt(std::max(0.0, value));  // ascending
  return sum;
}

}  // namespace

DenseMatrix ToDense(const FeatureMatrix& features, int64_t begin, int64_t end) {
  DenseMatrix dense;
  dense.rows = end - begin;
  dense.cols = features.cols;
  dense.values.assign(features.values.begin() + begin * features.cols, features.values.begin() + end * features.cols);
  return dense;
}

absl::StatusOr<DenseMatrix> UnitRows(const FeatureMatrix& features, const char* what) {
  DenseMatrix unit = ToDense(features);
  for (int64_t row = 0; row < unit.rows; ++row) {
    double* values = unit.Row(row);
    double sum_sq = 0;
    for (int64_t col = 0; col < unit.cols; ++col) sum_sq += values[col] * values[col];
    const double norm = std::sqrt(sum_sq);
    if (norm == 0) {
      return absl::InvalidArgumentError(
          fmt::format("row {} of the {} features is all zeros, so its direction is not defined", row, what));
    }
    for (int64_t col = 0; col < unit.cols; ++col) values[col] /= norm;
  }
  return unit;
}

DenseMatrix RowsOf(const DenseMatrix& matrix, int64_t begin, int64_t end) {
  DenseMatrix rows;
  rows.rows = end - begin;
  rows.cols = matrix.cols;
  rows.values.assign(matrix.Row(begin), matrix.Row(end));
  return rows;
}

std::vector<double> ColumnSums(const FeatureMatrix& features) {
  std::vector<double> sums(static_cast<size_t>(features.cols), 0.0);
  for (int64_t row = 0; row < features.rows; ++row) {
    const auto values = features.Row(row);
    for (size_t col = 0; col < values.size(); ++col) sums[col] += static_cast<double>(values[col]);
  }
  return sums;
}

void Centre(DenseMatrix& matrix, const std::vector<double>& mean) {
  for (int64_t row = 0; row < matrix.rows; ++row) {
    double* values = matrix.Row(row);
    for (size_t col = 0; col < mean.size(); ++col) values[col] -= mean[col];
  }
}

double SumOfSquares(const DenseMatrix& matrix) {
  double sum = 0;
  for (double value : matrix.values) sum += value * value;
  return sum;
}

DenseMatrix TimesTransposed(const DenseMatrix& a, const DenseMatrix& b) {
  DenseMatrix product(a.rows, b.rows);
  const int m = Int(b.rows), n = Int(a.rows), k = Int(a.cols);
  const double one = 1, zero = 0;
  dgemm_("T", "N", &m, &n, &k, &one, b.values.data(), &k, a.values.data(), &k, &zero, product.values.data(), &m);
  return product;
}

void AddGram(const DenseMatrix& a, DenseMatrix& sum) {
  const int n = Int(a.cols), k = Int(a.rows);
  const double one = 1;
  dsyrk_("L", "N", &n, &k, &one, a.values.data(), &n, &one, sum.values.data(), &n);
}

DenseMatrix FactorOfGram(DenseMatrix gram) {
  const int n = Int(gram.rows);
  DenseMatrix cholesky = gram;
  int info = 0;
  dpotrf_("L", &n, cholesky.values.data(), &n, &info);
  if (info == 0) {
    // L, column-major, is F = Lᵀ, row-major; clear what lies beyond the triangle.
    for (int64_t row = 0; row < n; ++row) std::fill(cholesky.Row(row), cholesky.Row(row) + row, 0.0);
    return cholesky;
  }
  std::vector<int> pivot(static_cast<size_t>(n));
  std::vector<double> work(static_cast<size_t>(2 * n));
  int rank = 0;
  const double default_tolerance = -1;  // n·eps·(largest diagonal element)
  dpstrf_("L", &n, gram.values.data(), &n, pivot.data(), &rank, &default_tolerance, work.data(), &info);
  DenseMatrix factor(rank, n);
  for (int64_t row = 0; row < rank; ++row) {
    for (int64_t col = row; col < n; ++col) factor.Row(row)[pivot[static_cast<size_t>(col)] - 1] = gram.Row(row)[col];
  }
  return factor;
}

double SumOfSingularValues(DenseMatrix a) {
  if (a.rows == 0 || a.cols == 0) return 0;
  if (std::min(a.rows, a.cols) > kSquareFrom) return SumOfSingularValuesBySquare(a);
  return SumOfSingularValuesBySvd(std::move(a));
}

}  // namespace loupe::analysis::metrics
