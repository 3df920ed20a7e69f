// IA³ (Liu et al. 2022, arXiv 2205.05638): factors per channel that start at 1, on the keys and values of every
// attention and on the hidden values of every feed-forward, which are the inputs of its last layer.
//
//   to_k, to_v:  l ⊙ (W x + b)          ff.net.2:  W (l ⊙ x) + b
//
// Names, shapes and arithmetic are peft's. Merging is exact: W's rows (and b) or columns times l.
#include <torch/utils.h>

#include <utility>

#include "worker/methods/own_weights.h"
#include "worker/methods/per_channel.h"

namespace loupe::worker::methods {
namespace {

class Ia3Hook : public nn::LayerHook {
 public:
  Ia3Hook(const nn::LeafLayer& layer, bool on_input, torch::Tensor factors)
      : layer_(layer), on_input_(on_input), factors_(std::move(factors)) {}

  bool extends() const override { return !on_input_; }

  torch::Tensor Forward(const torch::Tensor& x, const torch::Tensor& own) const override {
    const torch::Tensor& y = on_input_ ? x : own;
    const torch::Tensor scaled = y * PerChannel(factors_.flatten(1), y, nn::LeafKind::kLinear);
    return on_input_ ? layer_.Apply(scaled, layer_.weight, layer_.bias) : scaled;
  }

 private:
  const nn::LeafLayer& layer_;
  const bool on_input_;
  const torch::Tensor factors_;  // [K, out, 1] or [K, 1, in]
};

class Ia3 : public ParameterMethod {
 public:
  Ia3(const nn::TuningSites& sites, const nn::SlotRange& range, torch::Device device) : ParameterMethod(range) {
    for (const NamedSite& named : NamedSites(sites)) {
      const std::string& name = named.site.name;
      const bool on_input = settings::FitsName("ff.net.2", name);
      const bool linear = named.site.layer->kind() == nn::LeafKind::kLinear;
      if (named.conditioner || !linear ||
          !(on_input || settings::FitsName("to_k", name) || settings::FitsName("to_v", name)))
        continue;
      const torch::Tensor& weight = named.site.layer->weight;
      const std::vector<int64_t> shape = on_input ? std::vector<int64_t>{range.count, 1, weight.size(1)}
                                                  : std::vector<int64_t>{range.count, weight.size(0), 1};
      const auto factors = torch::ones(shape, device).set_requires_grad(true);
      parameters_.push_back({named.file_name + ".ia3_l", factors, range.first});
      attachment_.Add(named.site, std::make_shared<Ia3Hook>(*named.site.layer, on_input, factors));
      placed_.push_back({named.file_name, factors});
    }
    TORCH_CHECK(!parameters_.empty(), "the base has no attention or feed-forward for IA3 (to_k, to_v, ff.net.2)");
  }

  absl::Status Merge(int64_t slot, BaseWeights& weights) const override {
    const torch::NoGradGuard no_grad;
    for (const Placed& placed : placed_) {
      const auto factors = placed.factors[slot - range_.first].cpu().to(torch::kFloat64);
      const auto scale = [](torch::Tensor& array, const torch::Tensor& by) {
        array = (array.cpu().to(torch::kFloat64) * by).to(array.scalar_type());
      };
      torch::Tensor* const weight = FindWeight(weights, placed.name + ".weight");
      TORCH_CHECK(weight != nullptr, "the base has no weight '", placed.name, ".weight'");
      scale(*weight, factors);
      torch::Tensor* const bias = FindWeight(weights, placed.name + ".bias");
      if (bias != nullptr && factors.size(1) == 1) scale(*bias, factors.flatten());
    }
    return absl::OkStatus();
  }

 private:
  struct Placed {
    std::string name;
    torch::Tensor factors;
  };
  std::vector<Placed> placed_;
};

}  // namespace

// No settings of its own. All slots of a layer are computed together.
std::unique_ptr<Method> MakeIa3(const nn::TuningSites& sites, const std::vector<SlotOptions>& /*slots*/,
                                const nn::SlotRange& range, torch::Device device) {
  return std::make_unique<Ia3>(sites, range, device);
}

}  // namespace loupe::worker::methods
