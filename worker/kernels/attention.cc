#include "worker/kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "worker/kernels/packed_gemm.h"
#include "worker/kernels/vector.h"

namespace loupe::worker::kernels {
namespace {

// Queries lie in the lanes of vectors, V vectors at a time, and keys run along the loops: maximum, exponential and sum
// then take no steps across lanes, a lane's numbers know nothing of its neighbours, and keys and values are read as
// they lie, a number at a time, whatever their count.

constexpr int64_t kKeys = 128;         // scores held at once, by the queries of V vectors: 8 KiB
constexpr float kLog2E = 1.44269504F;  // scores carry it, so that 2 to their power is what is wanted

template <int64_t W, int V, int R>
LOUPE_INLINE void AddOuterProduct(const float* column, int64_t row_step, const float* row, Vec<W> (&sums)[R][V]) {
  Vec<W> y[V];
#pragma GCC unroll 3
  for (int v = 0; v < V; ++v) y[v] = Load<W>(row + v * W);
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
    const Vec<W> x = All<W>(column[r * row_step]);
#pragma GCC unroll 3
    for (int v = 0; v < V; ++v) sums[r][v] += x * y[v];
  }
}

// R rows of C = A · B (added to what stands in C if `add`), V vectors wide. `top`, if not null, is raised to the
// maximum of the rows.
template <int64_t W, int V, int R>
LOUPE_INLINE void ProductTile(const float* a, int64_t row_step, int64_t inner_step, int64_t inner, const float* b,
                              int64_t b_stride, float* c, int64_t c_stride, bool add, Vec<W>* top) {
  Vec<W> sums[R][V] = {};
  if (add) {
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 3
      for (int v = 0; v < V; ++v) sums[r][v] = Load<W>(c + r * c_stride + v * W);
    }
  }
  int64_t i = 0;
  for (; i + 4 <= inner; i += 4) {
#pragma GCC unroll 4
    for (int64_t j = i; j < i + 4; ++j) AddOuterProduct<W, V, R>(a + j * inner_step, row_step, b + j * b_stride, sums);
  }
  for (; i < inner; ++i) AddOuterProduct<W, V, R>(a + i * inner_step, row_step, b + i * b_stride, sums);
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 3
    for (int v = 0; v < V; ++v) {
      Store<W>(c + r * c_stride + v * W, sums[r][v]);
      if (top != nullptr) top[v] = Max<W>(top[v], sums[r][v]);
    }
  }
}

// C [rows, V vectors] (+)= A [rows, inner] · B [inner, V vectors], A[m][i] = a[m · row_step + i · inner_step]. Each
// number of C is one chain of fused products in the order of `inner`. The rows are split evenly: a short last tile
// would have too few sums to hide the products' latency.
template <int64_t W, int V>
LOUPE_INLINE void Product(const float* a, int64_t row_step, int64_t inner_step, int64_t rows, int64_t inner,
                          const float* b, int64_t b_stride, float* c, int64_t c_stride, bool add, Vec<W>* top) {
  constexpr int64_t kMost = V == 1 ? 12 : V == 2 ? 6 : 3;  // with V = 3, compilers spill what would just fit
  const int64_t tiles = (rows + kMost - 1) / kMost, least = rows / tiles, longer = rows % tiles;
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t count = least + (t < longer ? 1 : 0);
    switch (count) {
#define LOUPE_TILE(R)                                                                           \
  case R:                                                                                       \
    if constexpr (R <= kMost) {                                                                 \
      ProductTile<W, V, R>(a, row_step, inner_step, inner, b, b_stride, c, c_stride, add, top); \
    }                                                                                           \
    break
      LOUPE_TILE(1);
      LOUPE_TILE(2);
      LOUPE_TILE(3);
      LOUPE_TILE(4);
      LOUPE_TILE(5);
      LOUPE_TILE(6);
      LOUPE_TILE(7);
      LOUPE_TILE(8);
      LOUPE_TILE(9);
      LOUPE_TILE(10);
      LOUPE_TILE(11);
      LOUPE_TILE(12);
#undef LOUPE_TILE
      default:
        break;
    }
    a += count * row_step;
    c += count * c_stride;
  }
}

// The transpose of 8 × 8 numbers.
LOUPE_INLINE void Transpose(Vec<8> (&m)[8]) {
  Vec<8> t[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    t[i] = __builtin_shufflevector(m[i], m[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    t[i + 1] = __builtin_shufflevector(m[i], m[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  Vec<8> u[8];
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      u[i + 2 * j] = __builtin_shufflevector(t[i + j], t[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
      u[i + 2 * j + 1] = __builtin_shufflevector(t[i + j], t[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    m[i] = __builtin_shufflevector(u[i], u[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    m[i + 4] = __builtin_shufflevector(u[i], u[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}

// to [width, lanes] = scale · rowsᵀ [count ≤ lanes, width]; the lanes beyond are 0.
LOUPE_INLINE void PackColumns(const float* rows, int64_t stride, int64_t count, int64_t width, int64_t lanes,
                              float scale, float* to) {
  for (int64_t j = 0; j < lanes; j += 8) {
    const int64_t there = std::clamp<int64_t>(count - j, 0, 8);
    for (int64_t i = 0; i < width; i += 8) {
      Vec<8> m[8];
#pragma GCC unroll 8
      for (int r = 0; r < 8; ++r) m[r] = r < there ? Load<8>(rows + (j + r) * stride + i) * scale : Vec<8>{};
      Transpose(m);
#pragma GCC unroll 8
      for (int r = 0; r < 8; ++r) Store<8>(to + (i + r) * lanes + j, m[r]);
    }
  }
}

// rows [count, width] = (from [width, lanes] · scale [lanes], or 1 if that is null)ᵀ.
LOUPE_INLINE void UnpackColumns(const float* from, const float* scale, int64_t count, int64_t width, int64_t lanes,
                                float* rows, int64_t stride) {
  for (int64_t j = 0; j < count; j += 8) {
    const int64_t there = std::min<int64_t>(count - j, 8);
    const Vec<8> own_scale = scale == nullptr ? All<8>(1.0F) : Load<8>(scale + j);
    for (int64_t i = 0; i < width; i += 8) {
      Vec<8> m[8];
#pragma GCC unroll 8
      for (int r = 0; r < 8; ++r) m[r] = Load<8>(from + (i + r) * lanes + j) * own_scale;
      Transpose(m);
#pragma GCC unroll 8
      for (int r = 0; r < 8; ++r) {
        if (r < there) Store<8>(rows + (j + r) * stride + i, m[r]);
      }
    }
  }
}

// to [count, padded] = rows [count, width], each filled up with zeros.
LOUPE_INLINE void CopyRows(ConstRows rows, int64_t count, int64_t width, int64_t padded, MutableRows to) {
  for (int64_t r = 0; r < count; ++r) {
    int64_t i = 0;
    for (; i < width; i += 8) Store<8>(to.data + r * to.stride + i, Load<8>(rows.data + r * rows.stride + i));
    for (; i < padded; i += 8) Store<8>(to.data + r * to.stride + i, Vec<8>{});
  }
}

// Whether keys, values and their gradients are held densely, a head at a time. Rows a power of two apart, as those of
// all heads often are, meet in few sets of the first cache; only many queries and keys repay the copy.
LOUPE_INLINE bool Copies(const Attention& in) { return in.queries > 128 && in.keys > 128; }

// One head's keys or values: where they lie, or in `copy` if that is not null.
LOUPE_INLINE ConstRows OwnRows(ConstRows all, int64_t column, int64_t rows, int64_t width, float* copy) {
  const ConstRows own{all.data + column, all.stride};
  if (copy == nullptr) return own;
  CopyRows(own, rows, width, width, {copy, width});
  return {copy, width};
}

struct ForwardScratch {
  float *q, *scores, *out;
};

// `count` ≤ V · W queries of one head.
template <int64_t W, int V>
LOUPE_INLINE void ForwardBlock(const float* q, int64_t q_stride, int64_t count, ConstRows k, ConstRows v, int64_t keys,
                               int64_t width, const ForwardScratch& scratch, float* out, int64_t out_stride,
                               float* log_sums) {
  constexpr int64_t kLanes = V * W;
  PackColumns(q, q_stride, count, width, kLanes, kLog2E / std::sqrt(static_cast<float>(width)), scratch.q);
  Vec<W> top[V], sums[V] = {};
  for (Vec<W>& t : top) t = All<W>(-std::numeric_limits<float>::infinity());
  for (int64_t first = 0; first < keys; first += kKeys) {
    const int64_t block = std::min(kKeys, keys - first);
    const bool later = first > 0;
    Vec<W> before[V];
    for (int i = 0; i < V; ++i) before[i] = top[i];
    Product<W, V>(k.data + first * k.stride, k.stride, 1, block, width, scratch.q, kLanes, scratch.scores, kLanes,
                  false, top);
    if (later) {
      for (int i = 0; i < V; ++i) before[i] = Exp2<W>(before[i] - top[i]);
      for (int i = 0; i < V; ++i) sums[i] *= before[i];
      for (int64_t c = 0; c < width; ++c) {
        for (int i = 0; i < V; ++i) {
          float* const at = scratch.out + c * kLanes + i * W;
          Store<W>(at, Load<W>(at) * before[i]);
        }
      }
    }
    for (int64_t j = 0; j < block; ++j) {
#pragma GCC unroll 2
      for (int i = 0; i < V; ++i) {
        float* const at = scratch.scores + j * kLanes + i * W;
        const Vec<W> p = Exp2<W>(Load<W>(at) - top[i]);
        sums[i] += p;
        Store<W>(at, p);
      }
    }
    Product<W, V>(v.data + first * v.stride, 1, v.stride, width, block, scratch.scores, kLanes, scratch.out, kLanes,
                  later, nullptr);
  }
  float scale[kLanes], tops[kLanes], own_sums[kLanes];
  for (int i = 0; i < V; ++i) {
    Store<W>(scale + i * W, 1.0F / sums[i]);
    Store<W>(tops + i * W, top[i]);
    Store<W>(own_sums + i * W, sums[i]);
  }
  UnpackColumns(scratch.out, scale, count, width, kLanes, out, out_stride);
  if (log_sums == nullptr) return;
  for (int64_t i = 0; i < count; ++i) log_sums[i] = tops[i] + std::log2(own_sums[i]);
}

template <int64_t W>
LOUPE_INLINE void ForwardWith(const Attention& in, int64_t first_head, int64_t end_head, MutableRows out,
                              MutableRows log_sums) {
  const int64_t width = in.width, dense = Copies(in) ? in.keys * width : 0;
  const AlignedFloats floats(2 * W * (2 * width + kKeys) + 2 * dense);
  ForwardScratch scratch{};
  scratch.q = floats.get();
  scratch.out = scratch.q + 2 * W * width;
  scratch.scores = scratch.out + 2 * W * width;
  float* const k_copy = dense > 0 ? scratch.scores + 2 * W * kKeys : nullptr;
  float* const v_copy = dense > 0 ? k_copy + dense : nullptr;
  for (int64_t head = first_head; head < end_head; ++head) {
    const int64_t column = head * width;
    const ConstRows k = OwnRows(in.k, column, in.keys, width, k_copy);
    const ConstRows v = OwnRows(in.v, column, in.keys, width, v_copy);
    for (int64_t first = 0; first < in.queries; first += 2 * W) {
      const int64_t count = std::min<int64_t>(2 * W, in.queries - first);
      const float* const q = in.q.data + first * in.q.stride + column;
      float* const to = out.data + first * out.stride + column;
      float* const logs = log_sums.data == nullptr ? nullptr : log_sums.data + head * log_sums.stride + first;
      if (count > W) {
        ForwardBlock<W, 2>(q, in.q.stride, count, k, v, in.keys, width, scratch, to, out.stride, logs);
      } else {
        ForwardBlock<W, 1>(q, in.q.stride, count, k, v, in.keys, width, scratch, to, out.stride, logs);
      }
    }
  }
}

// C [rows, columns] (+)= A [rows, inner] · B [inner, columns]: columns in whole vectors.
template <int64_t W>
LOUPE_INLINE void WideProduct(const float* a, int64_t a_stride, int64_t rows, int64_t inner, ConstRows b, MutableRows c,
                              int64_t columns, bool add) {
  int64_t column = 0;
  if (columns == W) {
    Product<W, 1>(a, a_stride, 1, rows, inner, b.data, b.stride, c.data, c.stride, add, nullptr);
    return;
  }
  if (columns / W % 2 != 0) {
    Product<W, 3>(a, a_stride, 1, rows, inner, b.data, b.stride, c.data, c.stride, add, nullptr);
    column = 3 * W;
  }
  for (; column < columns; column += 2 * W) {
    Product<W, 2>(a, a_stride, 1, rows, inner, b.data + column, b.stride, c.data + column, c.stride, add, nullptr);
  }
}

struct BackwardScratch {
  float *q, *d_out, *d_q;      // [width, lanes]
  float *scores, *d_scores;    // [kKeys, lanes]
  float *q_rows, *d_out_rows;  // [lanes, padded]: the rows in whole vectors, where they are not
  MutableRows d_k, d_v;        // [keys, padded], or null
  int64_t padded;
};

template <int64_t W, int V>
LOUPE_INLINE void BackwardBlock(ConstRows q, ConstRows out, ConstRows d_out, const float* log_sums, int64_t count,
                                ConstRows k, ConstRows v, int64_t keys, int64_t width, bool first_queries,
                                const BackwardScratch& scratch, MutableRows d_q) {
  constexpr int64_t kLanes = V * W;
  // The gradients of the probabilities, and with them those of the scores, carry the scale: nothing else then needs it.
  const float scale = 1.0F / std::sqrt(static_cast<float>(width));
  PackColumns(q.data, q.stride, count, width, kLanes, scale * kLog2E, scratch.q);
  PackColumns(d_out.data, d_out.stride, count, width, kLanes, scale, scratch.d_out);
  PackColumns(out.data, out.stride, count, width, kLanes, 1.0F, scratch.d_q);
  Vec<W> logs[V], shifts[V] = {};
  float own_logs[kLanes] = {};
  std::copy_n(log_sums, count, own_logs);
  for (int i = 0; i < V; ++i) logs[i] = Load<W>(own_logs + i * W);
  for (int64_t c = 0; c < width; ++c) {
    for (int i = 0; i < V; ++i) {
      const int64_t at = c * kLanes + i * W;
      shifts[i] += Load<W>(scratch.d_out + at) * Load<W>(scratch.d_q + at);
    }
  }
  ConstRows q_rows = q, d_out_rows = d_out;
  if (scratch.padded != width) {
    CopyRows(q, count, width, scratch.padded, {scratch.q_rows, scratch.padded});
    CopyRows(d_out, count, width, scratch.padded, {scratch.d_out_rows, scratch.padded});
    q_rows = {scratch.q_rows, scratch.padded};
    d_out_rows = {scratch.d_out_rows, scratch.padded};
  }
  for (int64_t first = 0; first < keys; first += kKeys) {
    const int64_t block = std::min(kKeys, keys - first);
    for (int which = 0; which < 2; ++which) {
      const ConstRows& rows = which == 0 ? k : v;
      Product<W, V>(rows.data + first * rows.stride, rows.stride, 1, block, width,
                    which == 0 ? scratch.q : scratch.d_out, kLanes, which == 0 ? scratch.scores : scratch.d_scores,
                    kLanes, false, nullptr);
    }
    for (int64_t j = 0; j < block; ++j) {
#pragma GCC unroll 2
      for (int i = 0; i < V; ++i) {
        const int64_t at = j * kLanes + i * W;
        const Vec<W> p = Exp2<W>(Load<W>(scratch.scores + at) - logs[i]);
        Store<W>(scratch.scores + at, p);
        Store<W>(scratch.d_scores + at, p * (Load<W>(scratch.d_scores + at) - shifts[i]));
      }
    }
    Product<W, V>(k.data + first * k.stride, 1, k.stride, width, block, scratch.d_scores, kLanes, scratch.d_q, kLanes,
                  first > 0, nullptr);
    for (int which = 0; which < 2; ++which) {
      const MutableRows& to = which == 0 ? scratch.d_k : scratch.d_v;
      if (to.data == nullptr) continue;
      WideProduct<W>(which == 0 ? scratch.d_scores : scratch.scores, kLanes, block, count,
                     which == 0 ? q_rows : d_out_rows, {to.data + first * to.stride, to.stride}, scratch.padded,
                     !first_queries);
    }
  }
  UnpackColumns(scratch.d_q, nullptr, count, width, kLanes, d_q.data, d_q.stride);
}

template <int64_t W>
LOUPE_INLINE void BackwardWith(const Attention& in, int64_t first_head, int64_t end_head, ConstRows out,
                               ConstRows log_sums, ConstRows d_out, MutableRows d_q, MutableRows d_k, MutableRows d_v) {
  const int64_t width = in.width, padded = (width + W - 1) / W * W;
  const int64_t dense = Copies(in) ? in.keys * width : 0;
  const bool direct = dense == 0 && padded == width;  // sums of d_k and d_v where they are to stand
  const int64_t sums = direct ? 0 : in.keys * padded;
  const AlignedFloats floats(2 * W * (3 * width + 2 * kKeys + 2 * padded) + 2 * dense + 2 * sums);
  float* next = floats.get();
  const auto take = [&next](int64_t count) {
    float* const taken = next;
    next += count;
    return taken;
  };
  BackwardScratch scratch{};
  scratch.padded = padded;
  for (float** part : {&scratch.q, &scratch.d_out, &scratch.d_q}) *part = take(2 * W * width);
  for (float** part : {&scratch.scores, &scratch.d_scores}) *part = take(2 * W * kKeys);
  for (float** part : {&scratch.q_rows, &scratch.d_out_rows}) *part = take(2 * W * padded);
  if (d_k.data != nullptr) scratch.d_k = {take(sums), padded};
  if (d_v.data != nullptr) scratch.d_v = {take(sums), padded};
  float* const k_copy = dense > 0 ? take(dense) : nullptr;
  float* const v_copy = dense > 0 ? take(dense) : nullptr;
  for (int64_t head = first_head; head < end_head; ++head) {
    const int64_t column = head * width;
    const ConstRows k = OwnRows(in.k, column, in.keys, width, k_copy);
    const ConstRows v = OwnRows(in.v, column, in.keys, width, v_copy);
    if (direct && d_k.data != nullptr) scratch.d_k = {d_k.data + column, d_k.stride};
    if (direct && d_v.data != nullptr) scratch.d_v = {d_v.data + column, d_v.stride};
    for (int64_t first = 0; first < in.queries; first += 2 * W) {
      const int64_t count = std::min<int64_t>(2 * W, in.queries - first);
      const ConstRows q{in.q.data + first * in.q.stride + column, in.q.stride};
      const ConstRows own_out{out.data + first * out.stride + column, out.stride};
      const ConstRows own_d_out{d_out.data + first * d_out.stride + column, d_out.stride};
      const MutableRows own_d_q{d_q.data + first * d_q.stride + column, d_q.stride};
      const float* const logs = log_sums.data + head * log_sums.stride + first;
      if (count > W) {
        BackwardBlock<W, 2>(q, own_out, own_d_out, logs, count, k, v, in.keys, width, first == 0, scratch, own_d_q);
      } else {
        BackwardBlock<W, 1>(q, own_out, own_d_out, logs, count, k, v, in.keys, width, first == 0, scratch, own_d_q);
      }
    }
    if (direct) continue;
    for (int which = 0; which < 2; ++which) {
      const MutableRows& from = which == 0 ? scratch.d_k : scratch.d_v;
      const MutableRows& to = which == 0 ? d_k : d_v;
      if (from.data != nullptr) {
        CopyRows({from.data, from.stride}, in.keys, width, width, {to.data + column, to.stride});
      }
    }
  }
}

LOUPE_FOR_AVX2 void ForwardAvx2(const Attention& in, int64_t first_head, int64_t end_head, MutableRows out,
                                MutableRows log_sums) {
  ForwardWith<8>(in, first_head, end_head, out, log_sums);
}

LOUPE_FOR_AVX512 void ForwardAvx512(const Attention& in, int64_t first_head, int64_t end_head, MutableRows out,
                                    MutableRows log_sums) {
  ForwardWith<16>(in, first_head, end_head, out, log_sums);
}

LOUPE_FOR_AVX2 void BackwardAvx2(const Attention& in, int64_t first_head, int64_t end_head, ConstRows out,
                                 ConstRows log_sums, ConstRows d_out, MutableRows d_q, MutableRows d_k,
                                 MutableRows d_v) {
  BackwardWith<8>(in, first_head, end_head, out, log_sums, d_out, d_q, d_k, d_v);
}

LOUPE_FOR_AVX512 void BackwardAvx512(const Attention& in, int64_t first_head, int64_t end_head, ConstRows out,
                                     ConstRows log_sums, ConstRows d_out, MutableRows d_q, MutableRows d_k,
                                     MutableRows d_v) {
  BackwardWith<16>(in, first_head, end_head, out, log_sums, d_out, d_q, d_k, d_v);
}

}  // namespace

void AttentionForward(const Attention& inputs, int64_t first_head, int64_t end_head, MutableRows out,
                      MutableRows log_sums) {
  (Width() == 16 ? ForwardAvx512 : ForwardAvx2)(inputs, first_head, end_head, out, log_sums);
}

void AttentionBackward(const Attention& inputs, int64_t first_head, int64_t end_head, ConstRows out, ConstRows log_sums,
                       ConstRows d_out, MutableRows d_q, MutableRows d_k, MutableRows d_v) {
  (Width() == 16 ? BackwardAvx512 : BackwardAvx2)(inputs, first_head, end_head, out, log_sums, d_out, d_q, d_k, d_v);
}

}  // namespace loupe::worker::kernels
