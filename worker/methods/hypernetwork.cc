#include "worker/methods/hypernetwork.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "worker/methods/dropout.h"
#include "worker/methods/own_weights.h"
#include "worker/nn/leaf_layers.h"

namespace loupe::worker::methods {
namespace {

using LayerKind = files::HypernetworkLayer::Kind;

constexpr const char* kParts[] = {"to_k", "to_v"};

// A layer of the network whose input passes through a hypernetwork.
struct ContextLayer {
  nn::LayerSite site;
  size_t number = 0;  // among the base's layers
  size_t part = 0;    // of kParts
  int64_t width = 0;
};

std::vector<ContextLayer> ContextLayersOf(const nn::TuningSites& sites) {
  std::vector<ContextLayer> layers;
  for (size_t i = 0; i < sites.denoiser.size(); ++i) {
    const nn::LayerSite& site = sites.denoiser[i];
    for (size_t part = 0; part < std::size(kParts); ++part) {
      if (site.layer->kind() != nn::LeafKind::kLinear || !site.name.ends_with(fmt::format(".{}", kParts[part])))
        continue;
      layers.push_back({site, i, part, site.layer->weight.size(1)});
    }
  }
  TORCH_CHECK(!layers.empty(), "the base has no layers to_k and to_v that a hypernetwork could stand before");
  return layers;
}

std::set<int64_t> WidthsOf(const std::vector<ContextLayer>& layers) {
  std::set<int64_t> widths;
  for (const ContextLayer& layer : layers) widths.insert(layer.width);
  return widths;
}

// ---- one network

struct Values {
  torch::Tensor weight, bias;  // [1, …]: of one slot
};

class Network {
 public:
  Network(files::HypernetworkShape shape, int64_t width)
      : shape_(std::move(shape)), layers_(files::LayersOf(shape_, width)), values_(layers_.size()) {}

  const std::vector<files::HypernetworkLayer>& layers() const { return layers_; }
  Values& values(size_t layer) { return values_[layer]; }

  // `mask` gives a dropout's factor for a value, by the layer's place; may be null.
  template <typename Mask>
  torch::Tensor Forward(const torch::Tensor& x, const Mask& mask) const {
    torch::Tensor h = x;
    for (size_t i = 0; i < layers_.size(); ++i) {
      const files::HypernetworkLayer& layer = layers_[i];
      switch (layer.kind) {
        case LayerKind::kLinear:
          h = torch::linear(h, values_[i].weight[0], values_[i].bias[0]);
          break;
        case LayerKind::kActivation:
          h = files::HyperActivation(shape_.activation, h);
          break;
        case LayerKind::kNorm:
          h = torch::layer_norm(h, {layer.out}, values_[i].weight[0], values_[i].bias[0]);
          break;
        case LayerKind::kDropout:
          h = mask(h, layer);
          break;
      }
    }
    return x + h.to(x.scalar_type());
  }

 private:
  const files::HypernetworkShape shape_;
  const std::vector<files::HypernetworkLayer> layers_;
  std::vector<Values> values_;
};

// Their initial values: weights by name, biases 0; a layer norm's weights are drawn as small as the others.
void Draw(const torch::Tensor& weight, bool norm, const std::string& init, const std::string& activation,
          const at::Generator& generator) {
  const torch::NoGradGuard no_grad;
  if (norm || init == "normal") {
    weight.normal_(0, 0.01, generator);
    return;
  }
  const auto out = static_cast<double>(weight.size(0)), in = static_cast<double>(weight.size(1));
  constexpr double kLeak = 0.01;
  const double gain = activation == "leakyrelu" ? std::sqrt(2 / (1 + kLeak * kLeak)) : std::sqrt(2.0);
  const double deviation = init.starts_with("xavier") ? std::sqrt(2 / (in + out)) : gain / std::sqrt(in);
  if (init.ends_with("uniform")) {
    weight.uniform_(-std::sqrt(3.0) * deviation, std::sqrt(3.0) * deviation, generator);
  } else {
    weight.normal_(0, deviation, generator);
  }
}

// ---- one slot

struct SlotPlanOfWidths {
  files::HypernetworkShape shape;
  std::set<int64_t> widths;
  std::string init = "normal";
  uint64_t seed = 0;
};

struct SlotNetworks {
  std::map<int64_t, std::array<std::shared_ptr<Network>, 2>> widths;
  uint64_t mask_seed = 0;
};

class ContextHook : public nn::LayerHook {
 public:
  // `networks`: per slot; null where it has none for this width.
  ContextHook(const ContextLayer& layer, nn::SlotRange range, std::vector<std::shared_ptr<const Network>> networks,
              std::vector<uint64_t> seeds, std::shared_ptr<const PassState> pass)
      : layer_(*layer.site.layer),
        number_(layer.number),
        range_(range),
        networks_(std::move(networks)),
        seeds_(std::move(seeds)),
        pass_(std::move(pass)) {}

  bool extends() const override { return false; }

  torch::Tensor Forward(const torch::Tensor& x, const torch::Tensor& /*own*/) const override {
    std::vector<torch::Tensor> pieces;
    for (int64_t k = 0; k < range_.count; ++k) {
      const auto at = static_cast<size_t>(k);
      const torch::Tensor rows = nn::SlotRange{k, 1, range_.count}.Rows(x);
      const auto mask = [&](const torch::Tensor& h, const files::HypernetworkLayer& layer) {
        if (!pass_->training) return h;
        constexpr size_t kPlaces = 1024;  // of one network
        const auto place = number_ * kPlaces + static_cast<size_t>(layer.index);
        return h * pass_->Mask(h, layer.dropout, seeds_[at], place, range_.first + k);
      };
      const torch::Tensor changed = networks_[at] == nullptr ? rows : networks_[at]->Forward(rows, mask);
      pieces.push_back(layer_.Apply(changed, layer_.weight, layer_.bias));
    }
    return pieces.size() == 1 ? pieces.front() : torch::cat(pieces);
  }

 private:
  const nn::LeafLayer& layer_;
  const size_t number_;
  const nn::SlotRange range_;
  const std::vector<std::shared_ptr<const Network>> networks_;
  const std::vector<uint64_t> seeds_;
  const std::shared_ptr<const PassState> pass_;
};

class HypernetworkMethod : public ParameterMethod {
 public:
  HypernetworkMethod(const nn::TuningSites& sites, const std::vector<SlotPlanOfWidths>& plans,
                     const nn::SlotRange& range, torch::Device device)
      : ParameterMethod(range) {
    std::vector<SlotNetworks> slots;
    for (size_t k = 0; k < plans.size(); ++k) {
      slots.push_back(MakeNetworks(plans[k], range.first + static_cast<int64_t>(k), device));
    }
    for (const ContextLayer& layer : ContextLayersOf(sites)) {
      std::vector<std::shared_ptr<const Network>> networks;
      std::vector<uint64_t> seeds;
      for (const SlotNetworks& slot : slots) {
        const auto found = slot.widths.find(layer.width);
        networks.push_back(found == slot.widths.end() ? nullptr : found->second[layer.part]);
        seeds.push_back(slot.mask_seed);
      }
      if (std::all_of(networks.begin(), networks.end(), [](const auto& network) { return network == nullptr; }))
        continue;
      attachment_.Add(layer.site, std::make_shared<ContextHook>(layer, range, std::move(networks), seeds, pass_));
    }
  }

  void BeginTraining(const std::vector<int64_t>& draws, const runtime::RowShare& rows, KeptMasks* kept) override {
    TORCH_CHECK(static_cast<int64_t>(draws.size()) == range_.total, "a training pass needs a number per slot");
    *pass_ = {true, draws, rows, kept};
  }
  void EndTraining() override { pass_->training = false; }

  absl::Status Merge(int64_t /*slot*/, BaseWeights& /*weights*/) const override {
    return absl::InvalidArgumentError(
        "a hypernetwork cannot be folded into the base's weights: its biases pass through to_k and to_v, which have none; "
        "export it as a1111");
  }

 private:
  SlotNetworks MakeNetworks(const SlotPlanOfWidths& plan, int64_t slot, torch::Device device) {
    const auto generator = at::detail::createCPUGenerator(plan.seed);
    SlotNetworks networks;
    networks.mask_seed = Mixed(plan.seed);
    const auto add = [&](const std::string& name, const torch::Tensor& value) {
      torch::Tensor own = value.to(device).unsqueeze(0).set_requires_grad(true);
      parameters_.push_back({name, own, slot});
      return own;
    };
    for (const int64_t width : plan.widths) {
      for (size_t part = 0; part < std::size(kParts); ++part) {
        auto network = std::make_shared<Network>(plan.shape, width);
        for (size_t i = 0; i < network->layers().size(); ++i) {
          const files::HypernetworkLayer& layer = network->layers()[i];
          const bool norm = layer.kind == LayerKind::kNorm;
          if (!norm && layer.kind != LayerKind::kLinear) continue;
          const auto weight = norm ? torch::empty({layer.out}) : torch::empty({layer.out, layer.in});
          Draw(weight, norm, plan.init, plan.shape.activation, generator);
          const std::string name = fmt::format("hypernetwork.{}.{}.linear.{}", width, kParts[part], layer.index);
          network->values(i) = {add(name + ".weight", weight), add(name + ".bias", torch::zeros({layer.out}))};
        }
        networks.widths[width][part] = std::move(network);
      }
    }
    return networks;
  }

  const std::shared_ptr<PassState> pass_ = std::make_shared<PassState>();
};

std::set<int64_t> ChosenWidths(const settings::Settings& settings, const std::set<int64_t>& has) {
  const std::vector<std::string> names = settings.Names("method.widths");
  if (names == std::vector<std::string>{"all"}) return has;
  std::set<int64_t> chosen;
  for (const std::string& name : names) {
    int64_t width = 0;
    TORCH_CHECK(absl::SimpleAtoi(name, &width) && has.contains(width), "method.widths '", name,
                "' is no width of a context of the base; it has ", fmt::format("{}", fmt::join(has, ", ")));
    chosen.insert(width);
  }
  return chosen;
}

}  // namespace

files::HypernetworkShape HypernetworkShapeOf(const settings::Settings& settings) {
  files::HypernetworkShape shape;
  auto structure = files::ParseStructure(settings.Text("method.layer_structure"));
  TORCH_CHECK(structure.ok(), "method.layer_structure: ", std::string(structure.status().message()));
  shape.structure = *std::move(structure);
  shape.activation = settings.Text("method.hidden_activation");
  shape.activate_output = settings.Boolean("method.activate_output");
  shape.layer_norm = settings.Boolean("method.layer_norm");
  // After every layer but the last.
  shape.dropout.assign(shape.structure.size(), settings.Real("method.dropout"));
  shape.dropout.front() = shape.dropout.back() = 0;
  const std::string why = files::WhyUnsound(shape);
  TORCH_CHECK(why.empty(), "method.layer_structure: ", why);
  return shape;
}

std::unique_ptr<Method> MakeHypernetwork(const nn::TuningSites& sites, const std::vector<SlotOptions>& slots,
                                         const nn::SlotRange& range, torch::Device device) {
  const std::set<int64_t> has = WidthsOf(ContextLayersOf(sites));
  std::vector<SlotPlanOfWidths> plans;
  plans.reserve(slots.size());
  for (const SlotOptions& slot : slots) {
    plans.push_back({HypernetworkShapeOf(slot.settings), ChosenWidths(slot.settings, has),
                     slot.settings.Text("method.weight_init"), slot.init_seed});
  }
  return std::make_unique<HypernetworkMethod>(sites, plans, range, device);
}

std::unique_ptr<Method> MakeHypernetworkOf(const files::HypernetworkFile& file, const nn::TuningSites& sites,
                                           const nn::SlotRange& range, torch::Device device) {
  const std::set<int64_t> has = WidthsOf(ContextLayersOf(sites));
  SlotPlanOfWidths plan{.shape = file.shape, .widths = {}};
  for (const auto& [width, networks] : file.widths) {
    TORCH_CHECK(has.contains(width), "the hypernetwork is for contexts of width ", width, ", but the base's have ",
                fmt::format("{}", fmt::join(has, ", ")), ": it was made for another base");
    plan.widths.insert(width);
  }
  auto method = std::make_unique<HypernetworkMethod>(sites, std::vector{plan}, range, device);
  method->Import(range.first, files::HypernetworkArrays(file));
  return method;
}

}  // namespace loupe::worker::methods
