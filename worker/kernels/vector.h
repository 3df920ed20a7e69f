// Vectors of floats by the extensions that GCC and Clang share, and the choice of how wide they are on this processor.
//
// A kernel is a template over the width W, always inlined into one function per instruction set (LOUPE_FOR_AVX2,
// LOUPE_FOR_AVX512), which alone may use it; Width() says which of them to call. Products and sums next to each other
// are fused (the folder is compiled with -ffp-contract=fast). So a kernel's bytes depend on the processor's kind, as
// LibTorch's do, but never on how many rows, threads or trials there are: every kernel here computes a row, tile or
// picture by itself, in one order.
//
// The kernels take pointers to float32, row by row; none allocates more than scratch, throws, or keeps state.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace loupe::worker::kernels {

#if defined(__x86_64__) && !defined(__clang__)
// GCC takes vectors apart that a function's own instruction set does not have, before it inlines the function where
// they are. (Sixteen numbers are then two vectors of eight there.)
#define LOUPE_INLINE [[gnu::always_inline, gnu::target("avx2,fma")]] inline
#else
#define LOUPE_INLINE [[gnu::always_inline]] inline
#endif
#if defined(__x86_64__)
#define LOUPE_FOR_AVX2 [[gnu::target("avx2,fma")]]
#define LOUPE_FOR_AVX512 [[gnu::target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma")]]
#else  // compiled, and never called: Width() is 0
#define LOUPE_FOR_AVX2
#define LOUPE_FOR_AVX512
#endif

// Floats per vector of the widest instruction set that processor and kernels have in common: 16 (AVX-512), 8 (AVX2 with
// FMA) or 0: none, and LibTorch's operators are used instead. ATEN_CPU_CAPABILITY=default|avx2, which bounds LibTorch,
// bounds it too. Thread-safe; the same for the life of the process.
int Width();

template <int64_t W>
struct VectorOf {
  using Float __attribute__((vector_size(W * sizeof(float)))) = float;
  using Int __attribute__((vector_size(W * sizeof(float)))) = int32_t;
  using Double __attribute__((vector_size(W * sizeof(double)))) = double;
};
template <int64_t W>
using Vec = typename VectorOf<W>::Float;
template <int64_t W>
using IntVec = typename VectorOf<W>::Int;
template <int64_t W>
using DoubleVec = typename VectorOf<W>::Double;

template <int64_t W>
LOUPE_INLINE Vec<W> Load(const float* from) {
  Vec<W> v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

template <int64_t W>
LOUPE_INLINE void Store(float* to, const Vec<W>& v) {
  std::memcpy(to, &v, sizeof v);
}

// x in each place. (0 + x would be no copy of −0, and takes an operation.)
template <int64_t W>
LOUPE_INLINE Vec<W> All(float x) {
  static_assert(W == 8 || W == 16);
  if constexpr (W == 8) {
    return Vec<W>{x, x, x, x, x, x, x, x};
  } else {
    return Vec<W>{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
  }
}

// Of the first `count` < W numbers; the others are 0 (and not read, or written).
template <int64_t W>
LOUPE_INLINE Vec<W> LoadFirst(const float* from, int64_t count) {
  Vec<W> v{};
  std::memcpy(&v, from, static_cast<size_t>(count) * sizeof(float));
  return v;
}

template <int64_t W>
LOUPE_INLINE void StoreFirst(float* to, const Vec<W>& v, int64_t count) {
  std::memcpy(to, &v, static_cast<size_t>(count) * sizeof(float));
}

// Added up by halves, in one order.
template <int64_t W>
LOUPE_INLINE float Sum(const Vec<W>& v) {
  float lanes[W];
  Store<W>(lanes, v);
  for (int half = W / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

template <int64_t W>
LOUPE_INLINE Vec<W> Max(const Vec<W>& a, const Vec<W>& b) {
  return a > b ? a : b;
}

template <int64_t W>
LOUPE_INLINE Vec<W> Min(const Vec<W>& a, const Vec<W>& b) {
  return a < b ? a : b;
}

// The W with which functions of single numbers are best computed under AVX2: two vectors, whose chains of operations
// fill each other's waits. (GCC would take vectors wider than the processor's apart into numbers.)
#if defined(__clang__)
inline constexpr int64_t kPairAvx2 = 16;
#else
inline constexpr int64_t kPairAvx2 = 8;
#endif

// 2ˣ to 2 · 10⁻⁷ of itself, −126 ≤ x ≤ 126, beyond which it stays what it is there (no denormal numbers, no infinity);
// NaN stays NaN. eˣ by way of an argument times log₂ e costs another 6 · 10⁻⁸ |x|, which sigmoids and softmaxes can
// spare. x = n + f with |f| ≤ 1/2: a polynomial of f, and n into the exponent.
template <int64_t W>
LOUPE_INLINE Vec<W> Exp2(const Vec<W>& x) {
  constexpr float kRound = 12582912.0F;  // 1.5 · 2²³: adding it leaves the nearest whole number in the low bits
  const Vec<W> bounded = Max<W>(All<W>(-126.0F), Min<W>(All<W>(126.0F), x));
  const Vec<W> shifted = bounded + kRound;
  const Vec<W> f = bounded - (shifted - kRound);
  // The polynomial of least largest relative error on |f| ≤ 1/2 (10⁻⁷) among those of degree 5 that are 1 at 0.
  const Vec<W> f2 = f * f, high = f * 1.32647273e-3F + 9.67151299e-3F, middle = f * 5.55073358e-2F + 0.240222424F;
  const Vec<W> low = f * 0.693147004F + 1.0F;
  Vec<W> p = high * f2 + middle;
  p = p * f2 + low;
  IntVec<W> exponent, bits;
  std::memcpy(&exponent, &shifted, sizeof exponent);
  std::memcpy(&bits, &p, sizeof bits);
  bits += exponent << 23;  // the low bits of `shifted` are n's; what stands above them is shifted out
  Vec<W> result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

// x / (1 + e^−x).
template <int64_t W>
LOUPE_INLINE Vec<W> Silu(const Vec<W>& x) {
  return x / (1.0F + Exp2<W>(x * -1.44269504F));
}

// Silu's derivative, s (1 + x (1 − s)) with s = 1 / (1 + e^−x).
template <int64_t W>
LOUPE_INLINE Vec<W> SiluSlope(const Vec<W>& x) {
  const Vec<W> e = Exp2<W>(x * -1.44269504F), s = 1.0F / (1.0F + e);
  const Vec<W> rise = x * (e * s) + 1.0F;  // e s is 1 − s, without what a difference loses
  return s * rise;
}

// To 2.5 · 10⁻⁷, by the odd rational function of Eigen's and XLA's erf of floats. NaN stays NaN.
template <int64_t W>
LOUPE_INLINE Vec<W> Erf(const Vec<W>& x) {
  const Vec<W> bounded = Max<W>(All<W>(-4.0F), Min<W>(All<W>(4.0F), x)), t = bounded * bounded;
  Vec<W> p = t * -2.72614225801306e-10F + 2.77068142495902e-08F;
  p = p * t - 2.10102402082508e-06F;
  p = p * t - 5.69250639462346e-05F;
  p = p * t - 7.34990630326855e-04F;
  p = p * t - 2.95459980854025e-03F;
  p = p * t - 1.60960333262415e-02F;
  Vec<W> q = t * -1.45660718464996e-05F - 2.13374055278905e-04F;
  q = q * t - 1.68282697438203e-03F;
  q = q * t - 7.37332916720468e-03F;
  q = q * t - 1.42647390514189e-02F;
  return bounded * p / q;
}

}  // namespace loupe::worker::kernels
