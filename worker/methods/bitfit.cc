// BitFit (Ben Zaken et al. 2022, arXiv 2106.10199): every bias of the denoiser is trained, those of its norms included,
// and nothing else. The example of a method: one file, and a line of the registry.
#include <torch/utils.h>

#include <utility>

#include "worker/methods/layer_names.h"
#include "worker/methods/own_weights.h"
#include "worker/methods/per_channel.h"

namespace loupe::worker::methods {
namespace {

// The layer without its bias, plus each slot's own.
class BiasHook : public nn::LayerHook {
 public:
  BiasHook(const nn::LeafLayer& layer, torch::Tensor biases) : layer_(layer), biases_(std::move(biases)) {}

  bool extends() const override { return false; }

  torch::Tensor Forward(const torch::Tensor& x, const torch::Tensor& /*own*/) const override {
    const torch::Tensor y = layer_.Apply(x, layer_.weight, {});
    return y + PerChannel(biases_, y, layer_.kind());
  }

 private:
  const nn::LeafLayer& layer_;
  const torch::Tensor biases_;  // [K, out]
};

class BitFit : public OwnWeights {
 public:
  BitFit(const nn::TuningSites& sites, const nn::SlotRange& range, torch::Device device) : OwnWeights(range) {
    for (const NamedSite& named : NamedSites(sites)) {
      const nn::LeafLayer& layer = *named.site.layer;
      if (named.conditioner || !layer.bias.defined()) continue;
      const auto start = layer.bias.detach().to(device, torch::kFloat32);
      const auto biases = start.repeat({range.count, 1}).set_requires_grad(true);
      parameters_.push_back({named.file_name + ".bias", biases, range.first});
      attachment_.Add(named.site, std::make_shared<BiasHook>(layer, biases));
    }
    TORCH_CHECK(!parameters_.empty(), "the base's network has no biases to train");
  }
};

}  // namespace

// No settings of its own. All slots of a layer are computed together.
std::unique_ptr<Method> MakeBitFit(const nn::TuningSites& sites, const std::vector<SlotOptions>& /*slots*/,
                                   const nn::SlotRange& range, torch::Device device) {
  return std::make_unique<BitFit>(sites, range, device);
}

}  // namespace loupe::worker::methods
