// Methods that are bottlenecks at fixed taps of every transformer block: AdaptFormer's and the sequential adapter.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "worker/methods/bottleneck.h"
#include "worker/methods/own_weights.h"

namespace loupe::worker::methods {

// x_output ← x_output + s·A(x_input); at one and the same tap, x ← x + s·A(x).
struct BottleneckPlace {
  nn::Tap input, output;
  std::string name;  // of its values, after the block's: "adapter"
};

struct BlockBottlenecksOptions {
  std::vector<BottleneckPlace> places;  // blocks without their taps have none of them
  int64_t width = 0;
  Activation activation = Activation::kRelu;
  double scale = 1;
  double dropout = 0;  // of the hidden values
  BottleneckInit init = BottleneckInit::kTorch;
};

class BlockBottlenecks : public ParameterMethod {
 public:
  // Throws c10::Error when the base has no transformer block with one of the taps.
  BlockBottlenecks(const nn::TuningSites& sites, const BlockBottlenecksOptions& options,
                   const std::vector<SlotOptions>& slots, const nn::SlotRange& range, torch::Device device);

  void BeginTraining(const std::vector<int64_t>& draws, const runtime::RowShare& rows, KeptMasks* kept) override {
    TORCH_CHECK(static_cast<int64_t>(draws.size()) == range_.total, "a training pass needs a number per slot");
    *pass_ = {true, draws, rows, kept};
  }
  void EndTraining() override { pass_->training = false; }

  // They have an activation: no weights of the base equal them.
  absl::Status Merge(int64_t slot, BaseWeights& weights) const override;

 private:
  std::vector<FilePart> PartsOf(int64_t slot) const override;

  const std::shared_ptr<PassState> pass_ = std::make_shared<PassState>();
  std::vector<bool> transposed_;  // beside parameters_: in a file
};

}  // namespace loupe::worker::methods
