// Softmax attention of one picture: each head's out = softmax(q kᵀ / √width) v.
#pragma once

#include <cstdint>

namespace loupe::worker::kernels {

// Rows of floats, `stride` floats from each to the next.
struct ConstRows {
  const float* data = nullptr;
  int64_t stride = 0;
};
struct MutableRows {
  float* data = nullptr;
  int64_t stride = 0;
};

// One picture's tokens, row by row: head h is the columns from h · width on. Any numbers of queries and keys from 1 on;
// the scores are never held all at once.
struct Attention {
  ConstRows q, k, v;  // [queries, heads · width], [keys, heads · width] twice
  int64_t queries = 0;
  int64_t keys = 0;
  int64_t width = 0;  // a multiple of 8
};

// The heads from first_head up to, not including, end_head: columns of `out` [queries, heads · width], and, where
// log_sums.data is not null, row h of log_sums [heads, queries]: log₂ Σ exp of each query's scores, for
// AttentionBackward. A query's results are the same bytes whichever queries and heads else are computed in the call.
// Needs Width() > 0, as does AttentionBackward. Both are thread-safe for calls that write to different places.
void AttentionForward(const Attention& inputs, int64_t first_head, int64_t end_head, MutableRows out,
                      MutableRows log_sums);

// Gradients of those heads by d_out, over whatever stood there: d_q, and d_k and d_v where their data is not null (each
// by itself). d_k and d_v are sums over the queries of the call, in order.
void AttentionBackward(const Attention& inputs, int64_t first_head, int64_t end_head, ConstRows out, ConstRows log_sums,
                       ConstRows d_out, MutableRows d_q, MutableRows d_k, MutableRows d_v);

}  // namespace loupe::worker::kernels
