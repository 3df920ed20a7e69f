#include "worker/methods/block_bottlenecks.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/utils.h>

#include <memory>
#include <utility>

namespace loupe::worker::methods {
namespace {

struct PlacedBottleneck {
  nn::Tap input, output;
  std::shared_ptr<const Bottleneck> function;
};

class BottlenecksPass : public nn::BlockPass {
 public:
  explicit BottlenecksPass(const std::vector<PlacedBottleneck>& placed) : placed_(placed), kept_(placed.size()) {}

  torch::Tensor At(nn::Tap tap, const torch::Tensor& x) override {
    torch::Tensor y = x;
    for (size_t i = 0; i < placed_.size(); ++i) {
      if (placed_[i].input == tap) kept_[i] = x;
      if (placed_[i].output == tap) y = y + (*placed_[i].function)(kept_[i]);
    }
    return y;
  }

 private:
  const std::vector<PlacedBottleneck>& placed_;
  std::vector<torch::Tensor> kept_;  // beside placed_: what was read in this forward
};

class BottlenecksTaps : public nn::BlockTaps {
 public:
  explicit BottlenecksTaps(std::vector<PlacedBottleneck> placed) : placed_(std::move(placed)) {}
  std::unique_ptr<nn::BlockPass> Begin() override { return std::make_unique<BottlenecksPass>(placed_); }

 private:
  const std::vector<PlacedBottleneck> placed_;
};

}  // namespace

BlockBottlenecks::BlockBottlenecks(const nn::TuningSites& sites, const BlockBottlenecksOptions& options,
                                   const std::vector<SlotOptions>& slots, const nn::SlotRange& range,
                                   torch::Device device)
    : ParameterMethod(range) {
  std::vector<SlotInit> init;
  HiddenDropout dropout{.share = options.dropout, .slots = range, .pass = pass_};
  for (const SlotOptions& slot : slots) {
    init.push_back({at::detail::createCPUGenerator(slot.init_seed), options.init});
    dropout.seeds.push_back(slot.init_seed);
  }
  for (const nn::TappableBlock& block : sites.blocks) {
    if (block.kind != nn::BlockKind::kTransformer) continue;
    std::vector<PlacedBottleneck> placed;
    for (const BottleneckPlace& place : options.places) {
      if (!block.Has(place.input) || !block.Has(place.output)) continue;
      const BottleneckOptions size{.in = block.out_width,
                                   .out = block.out_width,
                                   .width = options.width,
                                   .activation = options.activation,
                                   .scales = std::vector<double>(slots.size(), options.scale),
                                   .device = device};
      std::shared_ptr<const Bottleneck> function = MakeTokenBottleneck(size, init, dropout);
      ++dropout.place;
      for (const Bottleneck::Parameter& parameter : function->parameters()) {
        parameters_.push_back({block.name + "." + place.name + "." + parameter.name, parameter.value, range.first});
        transposed_.push_back(parameter.transposed_in_file);
      }
      placed.push_back({place.input, place.output, std::move(function)});
    }
    if (!placed.empty()) attachment_.Add(block, std::make_shared<BottlenecksTaps>(std::move(placed)));
  }
  TORCH_CHECK(!parameters_.empty(), "the base has no transformer block to put an adapter into");
}

absl::Status BlockBottlenecks::Merge(int64_t /*slot*/, BaseWeights& /*weights*/) const {
  return absl::InvalidArgumentError(
      "an adapter with an activation is part of no weights of the base; expected --as bundle");
}

std::vector<FilePart> BlockBottlenecks::PartsOf(int64_t slot) const {
  std::vector<FilePart> parts = ParameterMethod::PartsOf(slot);
  // Every parameter holds every slot of the range.
  for (size_t i = 0; i < parts.size(); ++i) {
    if (transposed_[i]) parts[i].value = parts[i].value.t();
  }
  return parts;
}

}  // namespace loupe::worker::methods
