#include "worker/methods/adapter_size.h"

#include <algorithm>
#include <cstdlib>

namespace loupe::worker::methods {

AdapterWidths AdapterWidthsAt(const nn::TappableBlock& block, PositionPairId pair) {
  const PositionKind kind = KindOf(pair.input);
  if ((kind == PositionKind::kResidual) != (block.kind == nn::BlockKind::kResidual)) return {};
  if (!block.Has(pair.input) || !block.Has(pair.output)) return {};
  if (kind == PositionKind::kContext) return {true, block.context_width, block.context_width};
  // in_width is the width at Res_in; everywhere else in a block the stream has its final width.
  const auto width_at = [&](Position p) { return p == Position::kResIn ? block.in_width : block.out_width; };
  return {true, width_at(pair.input), width_at(pair.output)};
}

AdapterSize SizeOfAdapter(const std::vector<nn::TappableBlock>& blocks, PositionPairId pair) {
  AdapterSize size;
  for (const nn::TappableBlock& block : blocks) {
    const AdapterWidths widths = AdapterWidthsAt(block, pair);
    if (!widths.attached) continue;
    ++size.blocks;
    if (block.kind == nn::BlockKind::kResidual) {
      size.per_width += 9 * widths.in + 9 * widths.out + 1;
      size.fixed += 2 * widths.in + widths.out;
    } else {
      size.per_width += widths.in + widths.out + 1;
      size.fixed += widths.out;
    }
  }
  return size;
}

int64_t AdapterSize::WidthFor(int64_t parameters) const {
  if (per_width == 0) return 1;
  const int64_t below = std::max<int64_t>(1, (parameters - fixed) / per_width);
  return std::llabs(At(below) - parameters) <= std::llabs(At(below + 1) - parameters) ? below : below + 1;
}

}  // namespace loupe::worker::methods
