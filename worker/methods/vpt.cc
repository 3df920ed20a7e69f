// Visual prompt tuning (Jia et al. 2022, arXiv 2203.12119): n trained tokens stand in front of the stream's, and
// attention mixes them in.
//
//   deep      every transformer block has n tokens of its own, which end with it
//   shallow   n tokens before the network's first transformer block, which go on through the blocks that follow it in
//   its
//             stack (the others see none: between the stacks of a UNet the stream is a picture)
//
// Tokens are drawn from U(±√(3/d)), Xavier's for d → d, as the authors' code draws them where a patch holds d numbers.
// No weights of the base equal them, so there is nothing to merge.
#include <ATen/CPUGeneratorImpl.h>
#include <torch/utils.h>

#include <cmath>
#include <memory>
#include <utility>

#include "worker/methods/own_weights.h"

namespace loupe::worker::methods {
namespace {

class PromptPass : public nn::BlockPass {
 public:
  explicit PromptPass(const nn::PrefixTokens& prefix) : prefix_(prefix) {}
  torch::Tensor At(nn::Tap /*tap*/, const torch::Tensor& x) override { return x; }
  const nn::PrefixTokens* Prefix() const override { return &prefix_; }

 private:
  const nn::PrefixTokens& prefix_;
};

class PromptTaps : public nn::BlockTaps {
 public:
  explicit PromptTaps(nn::PrefixTokens prefix) : prefix_(std::move(prefix)) {}
  std::unique_ptr<nn::BlockPass> Begin() override { return std::make_unique<PromptPass>(prefix_); }

 private:
  const nn::PrefixTokens prefix_;
};

// "transformer_blocks" for "transformer_blocks.3": blocks of one list are one stack.
std::string StackOf(const nn::TappableBlock& block) { return block.name.substr(0, block.name.rfind('.')); }

class Vpt : public ParameterMethod {
 public:
  Vpt(const nn::TuningSites& sites, bool deep, const std::vector<SlotOptions>& slots, const nn::SlotRange& range,
      torch::Device device)
      : ParameterMethod(range) {
    for (const SlotOptions& slot : slots) generators_.push_back(at::detail::createCPUGenerator(slot.init_seed));
    const int64_t tokens = slots.front().settings.Integer("method.tokens");
    std::vector<const nn::TappableBlock*> blocks;
    for (const nn::TappableBlock& block : sites.blocks) {
      const bool in_stack = deep || blocks.empty() || StackOf(block) == StackOf(*blocks.front());
      if (block.kind == nn::BlockKind::kTransformer && in_stack && block.takes_prefix) blocks.push_back(&block);
    }
    TORCH_CHECK(!blocks.empty(), "the base has no transformer block that takes tokens in front of its own");
    for (const nn::TappableBlock* block : blocks) {
      nn::PrefixTokens prefix{.count = tokens, .values = {}, .stay = !deep && block != blocks.back()};
      if (deep || block == blocks.front()) prefix.values = Draw(*block, tokens, device);
      attachment_.Add(*block, std::make_shared<PromptTaps>(std::move(prefix)));
    }
  }

  absl::Status Merge(int64_t /*slot*/, BaseWeights& /*weights*/) const override {
    return absl::InvalidArgumentError("prompts are part of no weights of the base; expected --as bundle");
  }

 private:
  torch::Tensor Draw(const nn::TappableBlock& block, int64_t tokens, torch::Device device) {
    const double bound = std::sqrt(3.0 / static_cast<double>(block.in_width));
    std::vector<torch::Tensor> drawn;
    for (const at::Generator& generator : generators_) {
      drawn.push_back(torch::empty({tokens, block.in_width}).uniform_(-bound, bound, generator));
    }
    const auto values = torch::stack(drawn).to(device).set_requires_grad(true);
    parameters_.push_back({block.name + ".prompt", values, range_.first});
    return values;
  }

  std::vector<at::Generator> generators_;  // per slot
};

}  // namespace

// Both read method.tokens. A pack's slots must all be of one of the two, with as many tokens (BlockPass::Prefix).
std::unique_ptr<Method> MakeVptDeep(const nn::TuningSites& sites, const std::vector<SlotOptions>& slots,
                                    const nn::SlotRange& range, torch::Device device) {
  return std::make_unique<Vpt>(sites, /*deep=*/true, slots, range, device);
}
std::unique_ptr<Method> MakeVptShallow(const nn::TuningSites& sites, const std::vector<SlotOptions>& slots,
                                       const nn::SlotRange& range, torch::Device device) {
  return std::make_unique<Vpt>(sites, /*deep=*/false, slots, range, device);
}

}  // namespace loupe::worker::methods
