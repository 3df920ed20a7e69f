#include "worker/methods/in_out_adapter.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/utils.h>

#include <utility>

#include "common/positions.h"
#include "worker/methods/adapter_size.h"
#include "worker/methods/bottleneck.h"
#include "worker/methods/folded_weights.h"
#include "worker/methods/own_weights.h"

namespace loupe::worker::methods {
namespace {

// Consecutive slots that share everything but scale and seed.
struct SlotRun {
  int64_t first = 0;
  int64_t count = 0;
  PositionPairId pair{};
  Activation activation = Activation::kRelu;
  int64_t width = 0;
  bool zero_init = false;
  std::vector<double> scales;
};

// A run's function at one block.
struct PlacedRun {
  int64_t first;
  int64_t count;
  PositionPairId pair;
  std::shared_ptr<const Bottleneck> bottleneck;
};

// What one block's forward needs; immutable while attached.
struct Placement {
  int64_t slots;
  std::vector<PlacedRun> runs;  // by first slot
};

class InOutPass : public nn::BlockPass {
 public:
  explicit InOutPass(std::shared_ptr<const Placement> placement)
      : placement_(std::move(placement)), kept_(placement_->runs.size()) {}

  torch::Tensor At(nn::Tap tap, const torch::Tensor& x) override {
    const int64_t batch = x.size(0) / placement_->slots;
    // The rows of the batch in order: those that some run writes here, changed, and those between, as they are.
    std::vector<torch::Tensor> pieces;
    int64_t next_slot = 0;
    for (size_t i = 0; i < placement_->runs.size(); ++i) {
      const PlacedRun& run = placement_->runs[i];
      if (run.pair.input == tap) kept_[i] = Rows(x, run.first, run.count, batch);
      if (run.pair.output != tap) continue;
      if (run.first > next_slot) pieces.push_back(Rows(x, next_slot, run.first - next_slot, batch));
      pieces.push_back(Rows(x, run.first, run.count, batch) + (*run.bottleneck)(kept_[i]));
      next_slot = run.first + run.count;
    }
    if (pieces.empty()) return x;
    if (next_slot < placement_->slots) {
      pieces.push_back(Rows(x, next_slot, placement_->slots - next_slot, batch));
    }
    return pieces.size() == 1 ? pieces.front() : torch::cat(pieces);
  }

 private:
  torch::Tensor Rows(const torch::Tensor& x, int64_t first, int64_t count, int64_t batch) const {
    return count == placement_->slots ? x : x.narrow(0, first * batch, count * batch);
  }

  const std::shared_ptr<const Placement> placement_;
  std::vector<torch::Tensor> kept_;  // per run: what it read in this forward
};

class InOutTaps : public nn::BlockTaps {
 public:
  explicit InOutTaps(std::shared_ptr<const Placement> placement) : placement_(std::move(placement)) {}
  std::unique_ptr<nn::BlockPass> Begin() override { return std::make_unique<InOutPass>(placement_); }

 private:
  const std::shared_ptr<const Placement> placement_;
};

Position PositionOf(const settings::Settings& settings, std::string_view key) {
  const auto position = ParsePosition(settings.Text(key));
  TORCH_CHECK(position.has_value(), std::string(key), " '", settings.Text(key), "' is no position");
  return *position;
}

SlotRun RunOf(const std::vector<nn::TappableBlock>& blocks, const settings::Settings& settings) {
  SlotRun run;
  run.pair = {PositionOf(settings, "method.input"), PositionOf(settings, "method.output")};
  TORCH_CHECK(IsLegalPair(run.pair.input, run.pair.output), "an adapter cannot read at ", settings.Text("method.input"),
              " and write to ", settings.Text("method.output"),
              ": the output must lie at or after the input, in the same kind of block");
  run.activation = ParseActivation(settings.Text("method.activation"));
  run.zero_init = settings.Text("method.init") == "zero";
  const AdapterSize size = SizeOfAdapter(blocks, run.pair);
  TORCH_CHECK(size.blocks > 0, "the base has no block with the positions ", settings.Text("method.input"), " and ",
              settings.Text("method.output"));
  TORCH_CHECK(settings.Has("method.width") || settings.Has("method.parameters"),
              "give method.width or method.parameters");
  run.width = settings.Has("method.width") ? settings.Integer("method.width")
                                           : size.WidthFor(settings.Integer("method.parameters"));
  return run;
}

std::vector<SlotRun> RunsOf(const std::vector<nn::TappableBlock>& blocks, const std::vector<SlotOptions>& slots) {
  std::vector<SlotRun> runs;
  for (size_t i = 0; i < slots.size(); ++i) {
    SlotRun run = RunOf(blocks, slots[i].settings);
    run.first = static_cast<int64_t>(i);
    const double scale = slots[i].settings.Real("method.scale");
    const bool joins = !runs.empty() && runs.back().pair == run.pair && runs.back().activation == run.activation &&
                       runs.back().width == run.width && runs.back().zero_init == run.zero_init;
    if (!joins) runs.push_back(std::move(run));
    ++runs.back().count;
    runs.back().scales.push_back(scale);
  }
  return runs;
}

int64_t NormGroups(const nn::TappableBlock& block, int64_t channels) {
  constexpr int64_t kPapersGroups = 32;
  return channels % kPapersGroups == 0 ? kPapersGroups : block.norm_num_groups;
}

class InOutAdapter : public ParameterMethod {
 public:
  InOutAdapter(const std::vector<nn::TappableBlock>& blocks, const std::vector<SlotOptions>& slots,
               const nn::SlotRange& range, torch::Device device)
      : ParameterMethod(range) {
    std::vector<SlotInit> init;
    for (const SlotOptions& slot : slots) {
      init.push_back({at::detail::createCPUGenerator(slot.init_seed),
                      slot.settings.Text("method.init") == "zero" ? BottleneckInit::kZeroUp : BottleneckInit::kTorch});
      settings_.push_back(slot.settings);
    }
    const std::vector<SlotRun> runs = RunsOf(blocks, slots);
    // Block by block, so that each slot draws its values in the network's order.
    for (const nn::TappableBlock& block : blocks) PlaceAt(block, runs, init, device);
  }

  absl::Status Merge(int64_t slot, BaseWeights& weights) const override {
    files::AdapterFile file;
    file.arrays = Export(slot);
    file.settings = settings_[static_cast<size_t>(slot - range_.first)];
    return FoldAdapter(file, weights.denoiser);
  }

 private:
  std::vector<FilePart> PartsOf(int64_t slot) const override {
    std::vector<FilePart> parts;
    for (size_t i = 0; i < parameters_.size(); ++i) {
      const NamedParameter& parameter = parameters_[i];
      if (!parameter.Holds(slot)) continue;
      const torch::Tensor value = parameter.value[slot - parameter.first_slot];
      parts.push_back({parameter.name, transposed_[i] ? value.t() : value});
    }
    return parts;
  }

  void PlaceAt(const nn::TappableBlock& block, const std::vector<SlotRun>& runs, std::vector<SlotInit>& init,
               torch::Device device) {
    auto placement = std::make_shared<Placement>();
    placement->slots = range_.count;
    for (const SlotRun& run : runs) {
      const AdapterWidths widths = AdapterWidthsAt(block, run.pair);
      if (!widths.attached) continue;
      const BottleneckOptions options{.in = widths.in,
                                      .out = widths.out,
                                      .width = run.width,
                                      .activation = run.activation,
                                      .norm_groups = NormGroups(block, widths.in),
                                      .scales = run.scales,
                                      .device = device};
      std::vector<SlotInit> run_init(init.begin() + run.first, init.begin() + run.first + run.count);
      std::shared_ptr<const Bottleneck> bottleneck = block.kind == nn::BlockKind::kResidual
                                                         ? MakePictureBottleneck(options, run_init)
                                                         : MakeTokenBottleneck(options, run_init);
      for (const Bottleneck::Parameter& parameter : bottleneck->parameters()) {
        parameters_.push_back({block.name + ".adapter." + parameter.name, parameter.value, range_.first + run.first});
        transposed_.push_back(parameter.transposed_in_file);
      }
      placement->runs.push_back({run.first, run.count, run.pair, std::move(bottleneck)});
    }
    if (placement->runs.empty()) return;
    attachment_.Add(block, std::make_shared<InOutTaps>(std::move(placement)));
  }

  std::vector<settings::Settings> settings_;  // per slot
  std::vector<bool> transposed_;              // beside parameters_: in a file
};

}  // namespace

std::unique_ptr<Method> MakeInOutAdapter(const nn::TuningSites& sites, const std::vector<SlotOptions>& slots,
                                         const nn::SlotRange& range, torch::Device device) {
  return std::make_unique<InOutAdapter>(sites.blocks, slots, range, device);
}

}  // namespace loupe::worker::methods
