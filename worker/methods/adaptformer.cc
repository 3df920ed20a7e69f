// AdaptFormer (Chen et al. 2022, arXiv 2205.13535): beside the feed-forward of every transformer block runs a
// bottleneck on the same stream, before the norm:
//
//   x ← x + ff(norm(x)) + s·(W_up drop(relu(W_down x + b_down)) + b_up)
//
// with W_up and both biases 0 at first. Width 64, s = 0.1 and a dropout of 0.1 are its own.
#include "worker/methods/block_bottlenecks.h"

namespace loupe::worker::methods {

// Reads method.{bottleneck, parallel_scale, parallel_dropout}.
std::unique_ptr<Method> MakeAdaptFormer(const nn::TuningSites& sites, const std::vector<SlotOptions>& slots,
                                        const nn::SlotRange& range, torch::Device device) {
  const settings::Settings& settings = slots.front().settings;
  const BlockBottlenecksOptions options{.places = {{nn::Tap::kFfnIn, nn::Tap::kTransOut, "adapter"}},
                                        .width = settings.Integer("method.bottleneck"),
                                        .activation = Activation::kRelu,
                                        .scale = settings.Real("method.parallel_scale"),
                                        .dropout = settings.Real("method.parallel_dropout"),
                                        .init = BottleneckInit::kLora};
  return std::make_unique<BlockBottlenecks>(sites, options, slots, range, device);
}

}  // namespace loupe::worker::methods
