// The sequential adapter (Houlsby et al. 2019, arXiv 1902.00751): what a sublayer gives passes through a bottleneck
// with a skip before it is added to the stream:
//
//   x ← x + h + W_up gelu(W_down h + b_down) + b_up,   h = attn(norm(x)), and the same with h = ff(norm(x))
//
// after the attentions and the feed-forward, as there, or after one of the two: DiffFit's comparison (arXiv 2304.06648)
// has, by its count of parameters, one of width 64 for each block.
#include "worker/methods/block_bottlenecks.h"

namespace loupe::worker::methods {

// Reads method.{bottleneck, sublayers}.
std::unique_ptr<Method> MakeSequentialAdapter(const nn::TuningSites& sites, const std::vector<SlotOptions>& slots,
                                              const nn::SlotRange& range, torch::Device device) {
  const settings::Settings& settings = slots.front().settings;
  const std::string& sublayers = settings.Text("method.sublayers");
  BlockBottlenecksOptions options{.places = {},
                                  .width = settings.Integer("method.bottleneck"),
                                  .activation = Activation::kGelu,
                                  .scale = 1,
                                  .init = BottleneckInit::kNearZero};
  if (sublayers != "ff") {
    options.places = {{nn::Tap::kSaOut, nn::Tap::kSaOut, "attn1.adapter"},
                      {nn::Tap::kCaOut, nn::Tap::kCaOut, "attn2.adapter"}};
  }
  if (sublayers != "attention") options.places.push_back({nn::Tap::kFfnOut, nn::Tap::kFfnOut, "ff.adapter"});
  return std::make_unique<BlockBottlenecks>(sites, options, slots, range, device);
}

}  // namespace loupe::worker::methods
