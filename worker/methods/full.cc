// Full fine-tuning: the base's own weights are trained, all of them or those that are chosen, as copies: the base
// itself stays as it is.
#include <torch/utils.h>

#include <algorithm>

#include "absl/strings/str_join.h"
#include "worker/methods/layer_names.h"
#include "worker/methods/own_weights.h"

namespace loupe::worker::methods {
namespace {

// One slot's values of a layer: [1, …], or undefined where the layer's own stay.
struct OwnValues {
  torch::Tensor weight, bias;
};

// Slot by slot: each has all of the layer's weights to itself.
class OwnLayerHook : public nn::LayerHook {
 public:
  OwnLayerHook(const nn::LeafLayer& layer, std::vector<OwnValues> values) : layer_(layer), values_(std::move(values)) {}

  bool extends() const override { return false; }

  torch::Tensor Forward(const torch::Tensor& x, const torch::Tensor& /*own*/) const override {
    std::vector<torch::Tensor> pieces;
    const auto count = static_cast<int64_t>(values_.size());
    for (int64_t k = 0; k < count; ++k) {
      const OwnValues& own = values_[static_cast<size_t>(k)];
      pieces.push_back(layer_.Apply(nn::SlotRange{k, 1, count}.Rows(x),
                                    own.weight.defined() ? own.weight[0] : layer_.weight,
                                    own.bias.defined() ? own.bias[0] : layer_.bias));
    }
    return pieces.size() == 1 ? pieces.front() : torch::cat(pieces);
  }

 private:
  const nn::LeafLayer& layer_;
  const std::vector<OwnValues> values_;  // per slot
};

// What of the base a slot trains.
class Choice {
 public:
  explicit Choice(const settings::Settings& settings)
      : patterns_(settings.Names("method.layers")),
        used_(patterns_.size()),
        all_(patterns_ == std::vector<std::string>{"all"}),
        text_(settings.Boolean("method.text_encoder")) {}

  bool Takes(const NamedSite& named, const char* value) {
    if (named.conditioner && !text_) return false;
    const std::string name = named.site.name + value;
    bool takes = all_;
    for (size_t i = 0; i < patterns_.size() && !all_; ++i) {
      const bool fits = settings::FitsName(patterns_[i], name);
      used_[i] = used_[i] || fits;
      takes = takes || fits;
    }
    in_conditioner_ = in_conditioner_ || (takes && named.conditioner);
    return takes;
  }

  // Throws when something was asked for that the base does not have.
  void CheckUsed() const {
    for (size_t i = 0; i < patterns_.size() && !all_; ++i) {
      TORCH_CHECK(used_[i], "method.layers '", patterns_[i],
                  "' fits no weight of the base, whose names are like "
                  "'conv_in.weight' and 'down_blocks.0.resnets.0.conv1.bias'");
    }
    TORCH_CHECK(!text_ || in_conditioner_, "method.text_encoder is true, but method.layers '",
                absl::StrJoin(patterns_, " "), "' fits no weight of the text encoder");
  }

 private:
  const std::vector<std::string> patterns_;
  std::vector<bool> used_;
  const bool all_;
  const bool text_;
  bool in_conditioner_ = false;
};

class Full : public OwnWeights {
 public:
  Full(const nn::TuningSites& sites, const std::vector<SlotOptions>& slots, const nn::SlotRange& range,
       torch::Device device)
      : OwnWeights(range) {
    std::vector<Choice> choices;
    for (const SlotOptions& slot : slots) choices.emplace_back(slot.settings);
    for (const NamedSite& named : NamedSites(sites)) {
      std::vector<OwnValues> values(slots.size());
      bool any = false;
      for (size_t k = 0; k < slots.size(); ++k) {
        const auto take = [&](const torch::Tensor& from, const char* value, torch::Tensor& own) {
          if (!from.defined() || !choices[k].Takes(named, value)) return;
          // In the base's layout, which convolutions are fast in.
          own = from.detach().to(device, torch::kFloat32, /*non_blocking=*/false, /*copy=*/true);
          own = own.unsqueeze(0).set_requires_grad(true);
          parameters_.push_back({named.file_name + value, own, range.first + static_cast<int64_t>(k)});
          any = true;
        };
        take(named.site.layer->weight, ".weight", values[k].weight);
        take(named.site.layer->bias, ".bias", values[k].bias);
      }
      if (any) attachment_.Add(named.site, std::make_shared<OwnLayerHook>(*named.site.layer, std::move(values)));
    }
    for (const Choice& choice : choices) choice.CheckUsed();
  }
};

}  // namespace

// Reads method.{layers, text_encoder}: patterns are held against the names of weights in the checkpoint
// ("down_blocks.0.resnets.0.conv1.weight").
std::unique_ptr<Method> MakeFull(const nn::TuningSites& sites, const std::vector<SlotOptions>& slots,
                                 const nn::SlotRange& range, torch::Device device) {
  return std::make_unique<Full>(sites, slots, range, device);
}

}  // namespace loupe::worker::methods
