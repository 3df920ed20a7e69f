#include "worker/kernels/activation.h"

#include "worker/kernels/vector.h"

namespace loupe::worker::kernels {
namespace {

template <int64_t W>
LOUPE_INLINE Vec<W> Gelu(const Vec<W>& x) {
  const Vec<W> half = 0.5F * x;
  return half * Erf<W>(x * 0.707106781F) + half;
}

// Φ(x) and xΦ(x)'s slope, Φ(x) + x φ(x). e^(−x²/2) serves both: Φ by Abramowitz & Stegun 7.1.26, to 10⁻⁷.
template <int64_t W>
struct NormalCdf {
  Vec<W> value, gelu_slope;
};

template <int64_t W>
LOUPE_INLINE NormalCdf<W> ToNormalCdf(const Vec<W>& x) {
  const Vec<W> size = Max<W>(x, -x), e = Exp2<W>(x * x * -0.721347520F);  // e^(−x²/2)
  const Vec<W> t = 1.0F / (1.0F + size * 0.231641888F);
  Vec<W> p = t * 0.5307027145F - 0.7265760135F;
  p = p * t + 0.7107068705F;
  p = p * t - 0.142248368F;
  p = p * t + 0.127414796F;
  const Vec<W> tail = p * t * e, value = x > 0.0F ? 1.0F - tail : tail;
  return {value, x * 0.398942280F * e + value};
}

// e^−v, kGeluTanh being x times the sigmoid of v = 2 √(2/π) (x + 0.044715 x³).
template <int64_t W>
LOUPE_INLINE Vec<W> TanhExp(const Vec<W>& x) {
  const Vec<W> growth = x * x * -0.10294324F - 2.3022082F;  // −v log₂ e / x
  return Exp2<W>(x * growth);
}

template <int64_t W, Activation kKind>
LOUPE_INLINE Vec<W> Value(const Vec<W>& x) {
  if constexpr (kKind == Activation::kSilu) return Silu<W>(x);
  if constexpr (kKind == Activation::kGelu) return Gelu<W>(x);
  if constexpr (kKind == Activation::kGeluTanh) return x / (1.0F + TanhExp<W>(x));
}

template <int64_t W, Activation kKind>
LOUPE_INLINE Vec<W> Slope(const Vec<W>& x) {
  if constexpr (kKind == Activation::kSilu) return SiluSlope<W>(x);
  if constexpr (kKind == Activation::kGelu) return ToNormalCdf<W>(x).gelu_slope;
  if constexpr (kKind == Activation::kGeluTanh) {
    const Vec<W> e = TanhExp<W>(x), s = 1.0F / (1.0F + e), growth = x * x * 0.214064449F + 1.59576912F;  // v′
    const Vec<W> rise = x * growth * (e * s) + 1.0F;
    return s * rise;
  }
}

template <int64_t W, Activation kKind>
LOUPE_INLINE void ActivateWith(const float* x, int64_t count, float* y) {
  int64_t i = 0;
  for (; i + W <= count; i += W) Store<W>(y + i, Value<W, kKind>(Load<W>(x + i)));
  if (i < count) StoreFirst<W>(y + i, Value<W, kKind>(LoadFirst<W>(x + i, count - i)), count - i);
}

template <int64_t W, Activation kKind>
LOUPE_INLINE void ActivateGradientWith(const float* d_y, const float* x, int64_t count, float* d_x) {
  int64_t i = 0;
  for (; i + W <= count; i += W) Store<W>(d_x + i, Load<W>(d_y + i) * Slope<W, kKind>(Load<W>(x + i)));
  if (i < count) {
    const Vec<W> slope = Slope<W, kKind>(LoadFirst<W>(x + i, count - i));
    StoreFirst<W>(d_x + i, LoadFirst<W>(d_y + i, count - i) * slope, count - i);
  }
}

template <int64_t W>
LOUPE_INLINE void GegluWith(const float* in, int64_t rows, int64_t columns, float* out) {
  for (int64_t row = 0; row < rows; ++row, in += 2 * columns, out += columns) {
    const float *const a = in, *const g = in + columns;
    int64_t i = 0;
    for (; i + W <= columns; i += W) Store<W>(out + i, Load<W>(a + i) * Gelu<W>(Load<W>(g + i)));
    if (const int64_t rest = columns - i; rest > 0) {
      StoreFirst<W>(out + i, LoadFirst<W>(a + i, rest) * Gelu<W>(LoadFirst<W>(g + i, rest)), rest);
    }
  }
}

template <int64_t W>
struct GegluSlopes {
  Vec<W> d_a, d_g;
};

template <int64_t W>
LOUPE_INLINE GegluSlopes<W> ToGegluSlopes(const Vec<W>& d, const Vec<W>& a, const Vec<W>& g) {
  const NormalCdf<W> cdf = ToNormalCdf<W>(g);
  return {d * g * cdf.value, d * a * cdf.gelu_slope};
}

template <int64_t W>
LOUPE_INLINE void GegluGradientWith(const float* d_out, const float* in, int64_t rows, int64_t columns, float* d_in) {
  for (int64_t row = 0; row < rows; ++row, d_out += columns, in += 2 * columns, d_in += 2 * columns) {
    const float *const a = in, *const g = in + columns;
    int64_t i = 0;
    for (; i + W <= columns; i += W) {
      const GegluSlopes<W> d = ToGegluSlopes<W>(Load<W>(d_out + i), Load<W>(a + i), Load<W>(g + i));
      Store<W>(d_in + i, d.d_a);
      Store<W>(d_in + columns + i, d.d_g);
    }
    if (const int64_t rest = columns - i; rest > 0) {
      const GegluSlopes<W> d =
          ToGegluSlopes<W>(LoadFirst<W>(d_out + i, rest), LoadFirst<W>(a + i, rest), LoadFirst<W>(g + i, rest));
      StoreFirst<W>(d_in + i, d.d_a, rest);
      StoreFirst<W>(d_in + columns + i, d.d_g, rest);
    }
  }
}

template <int64_t W>
LOUPE_INLINE void ActivateKind(Activation kind, const float* x, int64_t count, float* y) {
  switch (kind) {
    case Activation::kSilu:
      return ActivateWith<W, Activation::kSilu>(x, count, y);
    case Activation::kGelu:
      return ActivateWith<W, Activation::kGelu>(x, count, y);
    case Activation::kGeluTanh:
      return ActivateWith<W, Activation::kGeluTanh>(x, count, y);
  }
}

template <int64_t W>
LOUPE_INLINE void ActivateGradientKind(Activation kind, const float* d_y, const float* x, int64_t count, float* d_x) {
  switch (kind) {
    case Activation::kSilu:
      return ActivateGradientWith<W, Activation::kSilu>(d_y, x, count, d_x);
    case Activation::kGelu:
      return ActivateGradientWith<W, Activation::kGelu>(d_y, x, count, d_x);
    case Activation::kGeluTanh:
      return ActivateGradientWith<W, Activation::kGeluTanh>(d_y, x, count, d_x);
  }
}

LOUPE_FOR_AVX2 void ActivateAvx2(Activation kind, const float* x, int64_t count, float* y) {
  ActivateKind<kPairAvx2>(kind, x, count, y);
}

LOUPE_FOR_AVX512 void ActivateAvx512(Activation kind, const float* x, int64_t count, float* y) {
  ActivateKind<16>(kind, x, count, y);
}

LOUPE_FOR_AVX2 void ActivateGradientAvx2(Activation kind, const float* d_y, const float* x, int64_t count, float* d_x) {
  ActivateGradientKind<kPairAvx2>(kind, d_y, x, count, d_x);
}

LOUPE_FOR_AVX512 void ActivateGradientAvx512(Activation kind, const float* d_y, const float* x, int64_t count,
                                             float* d_x) {
  ActivateGradientKind<16>(kind, d_y, x, count, d_x);
}

LOUPE_FOR_AVX2 void GegluAvx2(const float* in, int64_t rows, int64_t columns, float* out) {
  GegluWith<kPairAvx2>(in, rows, columns, out);
}

LOUPE_FOR_AVX512 void GegluAvx512(const float* in, int64_t rows, int64_t columns, float* out) {
  GegluWith<16>(in, rows, columns, out);
}

LOUPE_FOR_AVX2 void GegluGradientAvx2(const float* d_out, const float* in, int64_t rows, int64_t columns, float* d_in) {
  GegluGradientWith<kPairAvx2>(d_out, in, rows, columns, d_in);
}

LOUPE_FOR_AVX512 void GegluGradientAvx512(const float* d_out, const float* in, int64_t rows, int64_t columns,
                                          float* d_in) {
  GegluGradientWith<16>(d_out, in, rows, columns, d_in);
}

}  // namespace

void Activate(Activation kind, const float* x, int64_t count, float* y) {
  (Width() == 16 ? ActivateAvx512 : ActivateAvx2)(kind, x, count, y);
}

void ActivateGradient(Activation kind, const float* d_y, const float* x, int64_t count, float* d_x) {
  (Width() == 16 ? ActivateGradientAvx512 : ActivateGradientAvx2)(kind, d_y, x, count, d_x);
}

void Geglu(const float* in, int64_t rows, int64_t columns, float* out) {
  (Width() == 16 ? GegluAvx512 : GegluAvx2)(in, rows, columns, out);
}

void GegluGradient(const float* d_out, const float* in, int64_t rows, int64_t columns, float* d_in) {
  (Width() == 16 ? GegluGradientAvx512 : GegluGradientAvx2)(d_out, in, rows, columns, d_in);
}

}  // namespace loupe::worker::kernels
