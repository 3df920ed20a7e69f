// How many numbers an in/out adapter trains, and the width that comes nearest to a budget.
#pragma once

#include <cstdint>
#include <vector>

#include "common/positions.h"
#include "worker/nn/taps.h"

namespace loupe::worker::methods {

// Parameters = per_width · width + fixed, summed over the blocks that `pair` touches.
//   transformer block: Linear(d→r), Linear(r→d):                    r·(2d + 1) + d
//   residual block: GroupNorm(C_in), Conv3×3(C_in→r), Conv3×3(r→C_out): r·(9 C_in + 9 C_out + 1) + 2 C_in + C_out
struct AdapterSize {
  int64_t blocks = 0;
  int64_t per_width = 0;
  int64_t fixed = 0;

  int64_t At(int64_t width) const { return per_width * width + fixed; }
  // The width ≥ 1 whose parameter count is nearest to `parameters`; the smaller one of two equally near.
  int64_t WidthFor(int64_t parameters) const;
};

AdapterSize SizeOfAdapter(const std::vector<nn::TappableBlock>& blocks, PositionPairId pair);

// Channels in and out of an adapter at `block`, and whether `pair` lives in blocks of this kind at all.
struct AdapterWidths {
  bool attached = false;
  int64_t in = 0;
  int64_t out = 0;
};
AdapterWidths AdapterWidthsAt(const nn::TappableBlock& block, PositionPairId pair);

}  // namespace loupe::worker::methods
