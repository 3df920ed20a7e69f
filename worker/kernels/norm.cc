#include "worker/kernels/norm.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "worker/kernels/packed_gemm.h"
#include "worker/kernels/vector.h"

namespace loupe::worker::kernels {
namespace {

// Above this ratio of the mean square about the shift to the variance, the sums are taken again about the mean.
constexpr double kWorstCancellation = 16;

// A whole vector or, at the end of a row, `count` < W. (Told by the template, not by `count`: a branch between a
// product and the sum that takes it would keep them from being fused.)
template <int64_t W, bool kWhole>
LOUPE_INLINE Vec<W> LoadPart(const float* from, int64_t count) {
  if constexpr (kWhole) return Load<W>(from);
  return LoadFirst<W>(from, count);
}

template <int64_t W, bool kWhole>
LOUPE_INLINE void StorePart(float* to, const Vec<W>& v, int64_t count) {
  if constexpr (kWhole) {
    Store<W>(to, v);
  } else {
    StoreFirst<W>(to, v, count);
  }
}

// Arrays of one number per channel, each filled up with zeros to whole vectors.
class ChannelArrays {
 public:
  ChannelArrays(int64_t channels, int64_t arrays) : stride_((channels + 15) / 16 * 16), floats_(stride_ * arrays) {
    std::fill_n(floats_.get(), stride_ * arrays, 0.0F);
  }
  float* operator[](int64_t array) const { return floats_.get() + array * stride_; }

 private:
  int64_t stride_;
  AlignedFloats floats_;
};

void CopyOrFill(const float* from, int64_t count, float otherwise, float* to) {
  if (from != nullptr) {
    std::copy_n(from, count, to);
  } else {
    std::fill_n(to, count, otherwise);
  }
}

// --- Group norm, forward. Per channel: the shift, sums of x − shift and of its square; then what is subtracted, times
// what, plus what.

template <int64_t W, int P, bool kWhole>
LOUPE_INLINE void AddMoments(const float* x, int64_t channels, int64_t count, const float* shift, float* sums,
                             float* squares) {
  const Vec<W> about = Load<W>(shift);
  Vec<W> sum{}, square{};
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
    const Vec<W> d = LoadPart<W, kWhole>(x + p * channels, count) - about;
    sum += d;
    square += d * d;
  }
  Store<W>(sums, Load<W>(sums) + sum);
  Store<W>(squares, Load<W>(squares) + square);
}

template <int64_t W, int P>
LOUPE_INLINE void AddMomentsOfPixels(const float* x, int64_t channels, const float* shift, float* sums,
                                     float* squares) {
  int64_t c = 0;
  for (; c + W <= channels; c += W) AddMoments<W, P, true>(x + c, channels, W, shift + c, sums + c, squares + c);
  if (c < channels) AddMoments<W, P, false>(x + c, channels, channels - c, shift + c, sums + c, squares + c);
}

template <int64_t W, int P, bool kSilu, bool kWhole>
LOUPE_INLINE void Normalise(const float* x, int64_t channels, int64_t count, const float* centre, const float* scale,
                            const float* offset, float* y) {
  const Vec<W> minus = Load<W>(centre), times = Load<W>(scale), plus = Load<W>(offset);
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
    const Vec<W> d = LoadPart<W, kWhole>(x + p * channels, count) - minus;
    Vec<W> z = d * times + plus;
    if constexpr (kSilu) z = Silu<W>(z);
    StorePart<W, kWhole>(y + p * channels, z, count);
  }
}

template <int64_t W, int P, bool kSilu>
LOUPE_INLINE void NormalisePixels(const float* x, int64_t channels, const float* centre, const float* scale,
                                  const float* offset, float* y) {
  int64_t c = 0;
  for (; c + W <= channels; c += W) {
    Normalise<W, P, kSilu, true>(x + c, channels, W, centre + c, scale + c, offset + c, y + c);
  }
  if (c < channels) {
    Normalise<W, P, kSilu, false>(x + c, channels, channels - c, centre + c, scale + c, offset + c, y + c);
  }
}

template <int64_t W, bool kSilu>
LOUPE_INLINE void GroupNormWith(const GroupNormShape& shape, const float* x, const float* weight, const float* bias,
                                float eps, float* y, float* mean, float* rstd) {
  const int64_t channels = shape.channels, pixels = shape.pixels, per_group = channels / shape.groups;
  const double count = static_cast<double>(pixels * per_group);
  const ChannelArrays arrays(channels, 8);
  float *shift = arrays[0], *centre = arrays[1];
  float *const sums = arrays[2], *const squares = arrays[3], *const scale = arrays[4], *const offset = arrays[5],
               *const weights = arrays[6], *const biases = arrays[7];
  CopyOrFill(weight, channels, 1, weights);
  CopyOrFill(bias, channels, 0, biases);
  for (int64_t picture = 0; picture < shape.pictures; ++picture) {
    // First about one of the group's own numbers, which takes away an offset that all have in common.
    for (int64_t c = 0; c < channels; c += per_group) std::fill_n(shift + c, per_group, x[c]);
    for (bool again = false;; again = true) {
      std::fill_n(sums, channels, 0.0F);
      std::fill_n(squares, channels, 0.0F);
      int64_t p = 0;
      for (; p + 8 <= pixels; p += 8) AddMomentsOfPixels<W, 8>(x + p * channels, channels, shift, sums, squares);
      for (; p < pixels; ++p) AddMomentsOfPixels<W, 1>(x + p * channels, channels, shift, sums, squares);
      bool cancelled = false;
      for (int64_t group = 0; group < shape.groups; ++group) {
        const int64_t first = group * per_group, end = first + per_group;
        double sum = 0, square = 0;
        for (int64_t c = first; c < end; ++c) {
          sum += sums[c];
          square += squares[c];
        }
        const double off = sum / count, about = square / count, variance = std::max(about - off * off, 0.0);
        cancelled |= about > kWorstCancellation * variance;
        const double exact = shift[first] + off;
        const float rounded = static_cast<float>(exact), left = static_cast<float>(rounded - exact);
        const float inverse = static_cast<float>(1 / std::sqrt(variance + eps));
        if (mean != nullptr) mean[group] = rounded;
        if (rstd != nullptr) rstd[group] = inverse;
        for (int64_t c = first; c < end; ++c) {
          centre[c] = rounded;
          scale[c] = inverse * weights[c];
          offset[c] = left * scale[c] + biases[c];
        }
      }
      if (!cancelled || again) break;
      std::swap(shift, centre);
    }
    int64_t p = 0;
    for (; p + 4 <= pixels; p += 4) {
      NormalisePixels<W, 4, kSilu>(x + p * channels, channels, centre, scale, offset, y + p * channels);
    }
    for (; p < pixels; ++p) {
      NormalisePixels<W, 1, kSilu>(x + p * channels, channels, centre, scale, offset, y + p * channels);
    }
    x += pixels * channels;
    y += pixels * channels;
    if (mean != nullptr) mean += shape.groups;
    if (rstd != nullptr) rstd += shape.groups;
  }
}

// --- Group norm, gradient. With z = x̂ w + b, x̂ = (x − mean) rstd, and the means over the group ⟨·⟩:
// d_x = rstd (d_z w − ⟨d_z w⟩ − x̂ ⟨d_z w x̂⟩).

struct GradientArrays {
  float *centre, *rstd, *weight, *bias;  // per channel
  float *sums, *dots;                    // of d_z and d_z x̂, over the pixels
  float *times, *slope, *plus;           // d_x = d_z times + (x − centre) slope + plus
  GradientArrays At(int64_t c) const {
    return {centre + c, rstd + c, weight + c, bias + c, sums + c, dots + c, times + c, slope + c, plus + c};
  }
};

// Leaves d_z in d_x, where that is not d_y.
template <int64_t W, int P, bool kSilu, bool kWhole>
LOUPE_INLINE void AddDots(const float* d_y, const float* x, int64_t channels, int64_t count, const GradientArrays& of,
                          float* d_x) {
  const Vec<W> minus = Load<W>(of.centre), times = Load<W>(of.rstd);
  Vec<W> sum{}, dot{};
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
    const Vec<W> d = LoadPart<W, kWhole>(x + p * channels, count) - minus, normal = d * times;
    Vec<W> d_z = LoadPart<W, kWhole>(d_y + p * channels, count);
    if constexpr (kSilu) {
      const Vec<W> z = normal * Load<W>(of.weight) + Load<W>(of.bias);
      d_z *= SiluSlope<W>(z);
      StorePart<W, kWhole>(d_x + p * channels, d_z, count);
    }
    sum += d_z;
    dot += d_z * normal;
  }
  Store<W>(of.sums, Load<W>(of.sums) + sum);
  Store<W>(of.dots, Load<W>(of.dots) + dot);
}

template <int64_t W, int P, bool kSilu>
LOUPE_INLINE void AddDotsOfPixels(const float* d_y, const float* x, int64_t channels, const GradientArrays& of,
                                  float* d_x) {
  int64_t c = 0;
  for (; c + W <= channels; c += W) AddDots<W, P, kSilu, true>(d_y + c, x + c, channels, W, of.At(c), d_x + c);
  if (c < channels) AddDots<W, P, kSilu, false>(d_y + c, x + c, channels, channels - c, of.At(c), d_x + c);
}

template <int64_t W, int P, bool kWhole>
LOUPE_INLINE void Project(const float* d_z, const float* x, int64_t channels, int64_t count, const GradientArrays& of,
                          float* d_x) {
  const Vec<W> minus = Load<W>(of.centre), times = Load<W>(of.times), slope = Load<W>(of.slope),
               plus = Load<W>(of.plus);
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
    const Vec<W> d = LoadPart<W, kWhole>(x + p * channels, count) - minus, along = d * slope + plus;
    StorePart<W, kWhole>(d_x + p * channels, LoadPart<W, kWhole>(d_z + p * channels, count) * times + along, count);
  }
}

template <int64_t W, int P>
LOUPE_INLINE void ProjectPixels(const float* d_z, const float* x, int64_t channels, const GradientArrays& of,
                                float* d_x) {
  int64_t c = 0;
  for (; c + W <= channels; c += W) Project<W, P, true>(d_z + c, x + c, channels, W, of.At(c), d_x + c);
  if (c < channels) Project<W, P, false>(d_z + c, x + c, channels, channels - c, of.At(c), d_x + c);
}

template <int64_t W, bool kSilu>
LOUPE_INLINE void GroupNormGradientWith(const GroupNormShape& shape, const float* d_y, const float* x,
                                        const float* mean, const float* rstd, const float* weight, const float* bias,
                                        float* d_x) {
  const int64_t channels = shape.channels, pixels = shape.pixels, per_group = channels / shape.groups;
  const double count = static_cast<double>(pixels * per_group);
  const ChannelArrays arrays(channels, 9);
  const GradientArrays of = {arrays[0], arrays[1], arrays[2], arrays[3], arrays[4],
                             arrays[5], arrays[6], arrays[7], arrays[8]};
  CopyOrFill(weight, channels, 1, of.weight);
  CopyOrFill(bias, channels, 0, of.bias);
  for (int64_t picture = 0; picture < shape.pictures; ++picture) {
    for (int64_t group = 0; group < shape.groups; ++group) {
      std::fill_n(of.centre + group * per_group, per_group, mean[group]);
      std::fill_n(of.rstd + group * per_group, per_group, rstd[group]);
    }
    std::fill_n(of.sums, channels, 0.0F);
    std::fill_n(of.dots, channels, 0.0F);
    int64_t p = 0;
    for (; p + 4 <= pixels; p += 4) {
      AddDotsOfPixels<W, 4, kSilu>(d_y + p * channels, x + p * channels, channels, of, d_x + p * channels);
    }
    for (; p < pixels; ++p) {
      AddDotsOfPixels<W, 1, kSilu>(d_y + p * channels, x + p * channels, channels, of, d_x + p * channels);
    }
    for (int64_t group = 0; group < shape.groups; ++group) {
      const int64_t first = group * per_group, end = first + per_group;
      double sum = 0, dot = 0;
      for (int64_t c = first; c < end; ++c) {
        sum += static_cast<double>(of.sums[c]) * of.weight[c];
        dot += static_cast<double>(of.dots[c]) * of.weight[c];
      }
      const double inverse = rstd[group];
      const float slope = static_cast<float>(-inverse * inverse * (dot / count));
      const float plus = static_cast<float>(-inverse * (sum / count));
      for (int64_t c = first; c < end; ++c) {
        of.times[c] = rstd[group] * of.weight[c];
        of.slope[c] = slope;
        of.plus[c] = plus;
      }
    }
    const float* const d_z = kSilu ? d_x : d_y;
    p = 0;
    for (; p + 4 <= pixels; p += 4) {
      ProjectPixels<W, 4>(d_z + p * channels, x + p * channels, channels, of, d_x + p * channels);
    }
    for (; p < pixels; ++p) {
      ProjectPixels<W, 1>(d_z + p * channels, x + p * channels, channels, of, d_x + p * channels);
    }
    d_y += pixels * channels;
    x += pixels * channels;
    d_x += pixels * channels;
    mean += shape.groups;
    rstd += shape.groups;
  }
}

// --- Layer norm: R rows side by side, so that one's sums across its vectors do not wait for another's. Each step is
// for one vector's columns.

// x − m; 0 where the row has ended.
template <int64_t W, bool kWhole>
LOUPE_INLINE Vec<W> Deviation(const float* x, const Vec<W>& m, int64_t count) {
  if constexpr (kWhole) return Load<W>(x) - m;
  float lanes[W] = {};
  StoreFirst<W>(lanes, LoadFirst<W>(x, count) - m, count);
  return Load<W>(lanes);
}

// Weight or bias from column c on, where there are any.
template <bool kAffine>
LOUPE_INLINE const float* At(const float* numbers, int64_t c) {
  return kAffine ? numbers + c : nullptr;
}

template <int64_t W>
struct RowMoments {
  Vec<W> about{}, sum{}, square{};
  Vec<W> scale{}, offset{};  // y = (x − about) scale + offset, before weight and bias
};

template <int64_t W, int R, bool kWhole>
LOUPE_INLINE void AddToMeans(const float* x, int64_t columns, int64_t count, RowMoments<W>* rows) {
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) rows[r].sum += Deviation<W, kWhole>(x + r * columns, rows[r].about, count);
}

template <int64_t W, int R, bool kWhole>
LOUPE_INLINE void AddToMoments(const float* x, int64_t columns, int64_t count, RowMoments<W>* rows) {
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    const Vec<W> d = Deviation<W, kWhole>(x + r * columns, rows[r].about, count);
    rows[r].sum += d;
    rows[r].square += d * d;
  }
}

template <int64_t W, int R, bool kAffine, bool kWhole>
LOUPE_INLINE void NormaliseColumns(const float* x, int64_t columns, int64_t count, const float* weight,
                                   const float* bias, const RowMoments<W>* rows, float* y) {
  Vec<W> times{}, plus{};
  if constexpr (kAffine) {
    times = LoadPart<W, kWhole>(weight, count);
    plus = LoadPart<W, kWhole>(bias, count);
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    const Vec<W> d = LoadPart<W, kWhole>(x + r * columns, count) - rows[r].about;
    Vec<W> z = d * rows[r].scale + rows[r].offset;
    if constexpr (kAffine) z = z * times + plus;
    StorePart<W, kWhole>(y + r * columns, z, count);
  }
}

template <int64_t W, int R, bool kAffine>
LOUPE_INLINE void LayerNormRows(const float* x, int64_t columns, const float* weight, const float* bias, float eps,
                                float* y, float* mean, float* rstd) {
  const int64_t whole = columns / W * W, rest = columns - whole;
  const float count = static_cast<float>(columns);
  // The mean of the differences from the row's first number, then the moments about that mean, rounded: there is little
  // left that they could lose.
  RowMoments<W> rows[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) rows[r].about = All<W>(x[r * columns]);
  for (int64_t c = 0; c < whole; c += W) AddToMeans<W, R, true>(x + c, columns, W, rows);
  if (rest > 0) AddToMeans<W, R, false>(x + whole, columns, rest, rows);
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    rows[r].about += All<W>(Sum<W>(rows[r].sum) / count);
    rows[r].sum = Vec<W>{};
  }
  for (int64_t c = 0; c < whole; c += W) AddToMoments<W, R, true>(x + c, columns, W, rows);
  if (rest > 0) AddToMoments<W, R, false>(x + whole, columns, rest, rows);
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    const float left = Sum<W>(rows[r].sum) / count, variance = Sum<W>(rows[r].square) / count;
    const float inverse = 1 / std::sqrt(std::max(variance - left * left, 0.0F) + eps);
    if (mean != nullptr) mean[r] = rows[r].about[0] + left;
    if (rstd != nullptr) rstd[r] = inverse;
    rows[r].scale = All<W>(inverse);
    rows[r].offset = All<W>(-left * inverse);
  }
  for (int64_t c = 0; c < whole; c += W) {
    NormaliseColumns<W, R, kAffine, true>(x + c, columns, W, At<kAffine>(weight, c), At<kAffine>(bias, c), rows, y + c);
  }
  if (rest > 0) {
    NormaliseColumns<W, R, kAffine, false>(x + whole, columns, rest, At<kAffine>(weight, whole),
                                           At<kAffine>(bias, whole), rows, y + whole);
  }
}

template <int64_t W, bool kAffine>
LOUPE_INLINE void LayerNormWith(const float* x, int64_t rows, int64_t columns, const float* weight, const float* bias,
                                float eps, float* y, float* mean, float* rstd) {
  int64_t row = 0;
  const auto at = [&row](float* numbers) { return numbers == nullptr ? nullptr : numbers + row; };
  for (; row + 4 <= rows; row += 4) {
    LayerNormRows<W, 4, kAffine>(x + row * columns, columns, weight, bias, eps, y + row * columns, at(mean), at(rstd));
  }
  for (; row < rows; ++row) {
    LayerNormRows<W, 1, kAffine>(x + row * columns, columns, weight, bias, eps, y + row * columns, at(mean), at(rstd));
  }
}

template <int64_t W>
struct RowDots {
  Vec<W> mean{}, sum{}, dot{};      // of d_y w and d_y w (x − mean)
  Vec<W> times{}, slope{}, plus{};  // d_x = d_y w times + (x − mean) slope + plus
};

template <int64_t W, bool kAffine, bool kWhole>
LOUPE_INLINE Vec<W> Weights(const float* weight, int64_t count) {
  if constexpr (kAffine) return LoadPart<W, kWhole>(weight, count);
  return All<W>(1);
}

template <int64_t W, int R, bool kAffine, bool kWhole>
LOUPE_INLINE void AddRowDots(const float* d_y, const float* x, int64_t columns, int64_t count, const float* weight,
                             RowDots<W>* rows) {
  const Vec<W> times = Weights<W, kAffine, kWhole>(weight, count);
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    // Each product goes into one sum alone, so that there is one way only to fuse them, whatever R is.
    const Vec<W> d = (LoadPart<W, kWhole>(x + r * columns, count) - rows[r].mean) * times;
    const Vec<W> up = LoadPart<W, kWhole>(d_y + r * columns, count);  // 0 where the row has ended
    rows[r].sum += up * times;
    rows[r].dot += up * d;
  }
}

template <int64_t W, int R, bool kAffine, bool kWhole>
LOUPE_INLINE void ProjectColumns(const float* d_y, const float* x, int64_t columns, int64_t count, const float* weight,
                                 const RowDots<W>* rows, float* d_x) {
  const Vec<W> times = Weights<W, kAffine, kWhole>(weight, count);
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    const Vec<W> d = LoadPart<W, kWhole>(x + r * columns, count) - rows[r].mean;
    const Vec<W> along = d * rows[r].slope + rows[r].plus, up = LoadPart<W, kWhole>(d_y + r * columns, count) * times;
    StorePart<W, kWhole>(d_x + r * columns, up * rows[r].times + along, count);
  }
}

template <int64_t W, int R, bool kAffine>
LOUPE_INLINE void LayerNormGradientRows(const float* d_y, const float* x, int64_t columns, const float* mean,
                                        const float* rstd, const float* weight, float* d_x) {
  const int64_t whole = columns / W * W, rest = columns - whole;
  const float count = static_cast<float>(columns);
  RowDots<W> rows[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    rows[r].mean = All<W>(mean[r]);
    rows[r].times = All<W>(rstd[r]);
  }
  for (int64_t c = 0; c < whole; c += W) {
    AddRowDots<W, R, kAffine, true>(d_y + c, x + c, columns, W, At<kAffine>(weight, c), rows);
  }
  if (rest > 0)
    AddRowDots<W, R, kAffine, false>(d_y + whole, x + whole, columns, rest, At<kAffine>(weight, whole), rows);
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    const float inverse = rstd[r];
    rows[r].slope = All<W>(-inverse * inverse * inverse * (Sum<W>(rows[r].dot) / count));
    rows[r].plus = All<W>(-inverse * (Sum<W>(rows[r].sum) / count));
  }
  for (int64_t c = 0; c < whole; c += W) {
    ProjectColumns<W, R, kAffine, true>(d_y + c, x + c, columns, W, At<kAffine>(weight, c), rows, d_x + c);
  }
  if (rest > 0) {
    ProjectColumns<W, R, kAffine, false>(d_y + whole, x + whole, columns, rest, At<kAffine>(weight, whole), rows,
                                         d_x + whole);
  }
}

template <int64_t W, bool kAffine>
LOUPE_INLINE void LayerNormGradientWith(const float* d_y, const float* x, int64_t rows, int64_t columns,
                                        const float* mean, const float* rstd, const float* weight, float* d_x) {
  int64_t row = 0;
  for (; row + 4 <= rows; row += 4) {
    LayerNormGradientRows<W, 4, kAffine>(d_y + row * columns, x + row * columns, columns, mean + row, rstd + row,
                                         weight, d_x + row * columns);
  }
  for (; row < rows; ++row) {
    LayerNormGradientRows<W, 1, kAffine>(d_y + row * columns, x + row * columns, columns, mean + row, rstd + row,
                                         weight, d_x + row * columns);
  }
}

LOUPE_FOR_AVX2 void GroupNormAvx2(const GroupNormShape& shape, const float* x, const float* weight, const float* bias,
                                  float eps, AfterNorm after, float* y, float* mean, float* rstd) {
  if (after == AfterNorm::kSilu) {
    GroupNormWith<kPairAvx2, true>(shape, x, weight, bias, eps, y, mean, rstd);
  } else {
    GroupNormWith<kPairAvx2, false>(shape, x, weight, bias, eps, y, mean, rstd);
  }
}

LOUPE_FOR_AVX512 void GroupNormAvx512(const GroupNormShape& shape, const float* x, const float* weight,
                                      const float* bias, float eps, AfterNorm after, float* y, float* mean,
                                      float* rstd) {
  if (after == AfterNorm::kSilu) {
    GroupNormWith<16, true>(shape, x, weight, bias, eps, y, mean, rstd);
  } else {
    GroupNormWith<16, false>(shape, x, weight, bias, eps, y, mean, rstd);
  }
}

LOUPE_FOR_AVX2 void GroupNormGradientAvx2(const GroupNormShape& shape, const float* d_y, const float* x,
                                          const float* mean, const float* rstd, const float* weight, const float* bias,
                                          AfterNorm after, float* d_x) {
  if (after == AfterNorm::kSilu) {
    GroupNormGradientWith<kPairAvx2, true>(shape, d_y, x, mean, rstd, weight, bias, d_x);
  } else {
    GroupNormGradientWith<kPairAvx2, false>(shape, d_y, x, mean, rstd, weight, bias, d_x);
  }
}

LOUPE_FOR_AVX512 void GroupNormGradientAvx512(const GroupNormShape& shape, const float* d_y, const float* x,
                                              const float* mean, const float* rstd, const float* weight,
                                              const float* bias, AfterNorm after, float* d_x) {
  if (after == AfterNorm::kSilu) {
    GroupNormGradientWith<16, true>(shape, d_y, x, mean, rstd, weight, bias, d_x);
  } else {
    GroupNormGradientWith<16, false>(shape, d_y, x, mean, rstd, weight, bias, d_x);
  }
}

LOUPE_FOR_AVX2 void LayerNormAvx2(const float* x, int64_t rows, int64_t columns, const float* weight, const float* bias,
                                  float eps, float* y, float* mean, float* rstd) {
  if (weight != nullptr) {
    LayerNormWith<8, true>(x, rows, columns, weight, bias, eps, y, mean, rstd);
  } else {
    LayerNormWith<8, false>(x, rows, columns, weight, bias, eps, y, mean, rstd);
  }
}

LOUPE_FOR_AVX512 void LayerNormAvx512(const float* x, int64_t rows, int64_t columns, const float* weight,
                                      const float* bias, float eps, float* y, float* mean, float* rstd) {
  if (weight != nullptr) {
    LayerNormWith<16, true>(x, rows, columns, weight, bias, eps, y, mean, rstd);
  } else {
    LayerNormWith<16, false>(x, rows, columns, weight, bias, eps, y, mean, rstd);
  }
}

LOUPE_FOR_AVX2 void LayerNormGradientAvx2(const float* d_y, const float* x, int64_t rows, int64_t columns,
                                          const float* mean, const float* rstd, const float* weight, float* d_x) {
  if (weight != nullptr) {
    LayerNormGradientWith<8, true>(d_y, x, rows, columns, mean, rstd, weight, d_x);
  } else {
    LayerNormGradientWith<8, false>(d_y, x, rows, columns, mean, rstd, weight, d_x);
  }
}

LOUPE_FOR_AVX512 void LayerNormGradientAvx512(const float* d_y, const float* x, int64_t rows, int64_t columns,
                                              const float* mean, const float* rstd, const float* weight, float* d_x) {
  if (weight != nullptr) {
    LayerNormGradientWith<16, true>(d_y, x, rows, columns, mean, rstd, weight, d_x);
  } else {
    LayerNormGradientWith<16, false>(d_y, x, rows, columns, mean, rstd, weight, d_x);
  }
}

}  // namespace

void GroupNorm(const GroupNormShape& shape, const float* x, const float* weight, const float* bias, float eps,
               AfterNorm after, float* y, float* mean, float* rstd) {
  (Width() == 16 ? GroupNormAvx512 : GroupNormAvx2)(shape, x, weight, bias, eps, after, y, mean, rstd);
}

void GroupNormGradient(const GroupNormShape& shape, const float* d_y, const float* x, const float* mean,
                       const float* rstd, const float* weight, const float* bias, AfterNorm after, float* d_x) {
  (Width() == 16 ? GroupNormGradientAvx512 : GroupNormGradientAvx2)(shape, d_y, x, mean, rstd, weight, bias, after,
                                                                    d_x);
}

void LayerNorm(const float* x, int64_t rows, int64_t columns, const float* weight, const float* bias, float eps,
               float* y, float* mean, float* rstd) {
  (Width() == 16 ? LayerNormAvx512 : LayerNormAvx2)(x, rows, columns, weight, bias, eps, y, mean, rstd);
}

void LayerNormGradient(const float* d_y, const float* x, int64_t rows, int64_t columns, const float* mean,
                       const float* rstd, const float* weight, float* d_x) {
  (Width() == 16 ? LayerNormGradientAvx512 : LayerNormGradientAvx2)(d_y, x, rows, columns, mean, rstd, weight, d_x);
}

}  // namespace loupe::worker::kernels
