#include "worker/kernels/feed_forward.h"

#include <algorithm>

#include "worker/kernels/activation.h"

namespace loupe::worker::kernels {
namespace {

constexpr int64_t kBlock = 48;

}  // namespace

void FeedForward(const PackedMatrix& in, const float* in_bias, BetweenProducts between, const PackedMatrix& out,
                 const float* out_bias, const float* x, int64_t rows, float* h, float* y) {
  const int64_t wide = in.n(), narrow = out.k();
  const AlignedFloats own_h(h == nullptr ? kBlock * wide : 0), activated(kBlock * narrow);
  for (int64_t first = 0; first < rows; first += kBlock) {
    const int64_t count = std::min(kBlock, rows - first);
    float* const block = h == nullptr ? own_h.get() : h + first * wide;
    Multiply(x + first * in.k(), in.k(), count, in, in_bias, block, wide);
    if (between == BetweenProducts::kGeglu) {
      Geglu(block, count, narrow, activated.get());
    } else {
      Activate(Activation::kGeluTanh, block, count * narrow, activated.get());
    }
    Multiply(activated.get(), narrow, count, out, out_bias, y + first * out.n(), out.n());
  }
}

void FeedForwardGradient(const PackedMatrix& out, BetweenProducts between, const PackedMatrix& in, const float* d_y,
                         const float* h, int64_t rows, float* d_x) {
  const int64_t narrow = out.n(), wide = in.k();
  const AlignedFloats d_activated(kBlock * narrow), d_h(kBlock * wide);
  for (int64_t first = 0; first < rows; first += kBlock) {
    const int64_t count = std::min(kBlock, rows - first);
    Multiply(d_y + first * out.k(), out.k(), count, out, nullptr, d_activated.get(), narrow);
    if (between == BetweenProducts::kGeglu) {
      GegluGradient(d_activated.get(), h + first * wide, count, narrow, d_h.get());
    } else {
      ActivateGradient(Activation::kGeluTanh, d_activated.get(), h + first * wide, count * narrow, d_h.get());
    }
    Multiply(d_h.get(), wide, count, in, nullptr, d_x + first * in.n(), in.n());
  }
}

}  // namespace loupe::worker::kernels
