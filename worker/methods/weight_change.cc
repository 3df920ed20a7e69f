#include "worker/methods/weight_change.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/utils.h>

#include <cmath>
#include <memory>
#include <utility>

#include "worker/methods/target_layers.h"

namespace loupe::worker::methods {
namespace {

torch::Tensor DrawStart(const ChangeArray& array, const at::Generator& generator) {
  auto value = torch::zeros(array.shape);
  switch (array.start) {
    case StartingValues::kZero:
      return value;
    case StartingValues::kUniform: {
      const double bound = 1.0 / std::sqrt(static_cast<double>(value[0].numel()));
      return value.uniform_(-bound, bound, generator);
    }
    case StartingValues::kNormal:
      return value.normal_(0, 1, generator);
    case StartingValues::kSmallNormal:
      return value.normal_(0, 0.1, generator);
  }
  TORCH_CHECK(false, "no such starting values");
}

std::vector<torch::Tensor> OfSlot(const std::vector<torch::Tensor>& values, int64_t k) {
  std::vector<torch::Tensor> own;
  for (const torch::Tensor& value : values) own.push_back(value[k]);
  return own;
}

// Slot by slot: each has a Δ of its own.
class WeightChangeHook : public nn::LayerHook {
 public:
  WeightChangeHook(const nn::LeafLayer& layer, const WeightChange& change, double scale,
                   std::vector<torch::Tensor> values)
      : layer_(layer), change_(change), scale_(scale), values_(std::move(values)) {}

  bool extends() const override { return true; }

  torch::Tensor Forward(const torch::Tensor& x, const torch::Tensor& own) const override {
    std::vector<torch::Tensor> pieces;
    const int64_t count = values_.front().size(0);
    for (int64_t k = 0; k < count; ++k) {
      const nn::SlotRange one{k, 1, count};
      const auto delta = change_.delta(OfSlot(values_, k)).reshape(layer_.weight.sizes());
      pieces.push_back(one.Rows(own) + layer_.Apply(one.Rows(x), delta * scale_, {}));
    }
    return pieces.size() == 1 ? pieces.front() : torch::cat(pieces);
  }

 private:
  const nn::LeafLayer& layer_;
  const WeightChange change_;
  const double scale_;
  const std::vector<torch::Tensor> values_;
};

}  // namespace

double AlphaOverRank(const settings::Settings& settings) {
  const auto rank = static_cast<double>(settings.Integer("method.rank"));
  return settings.Has("method.alpha") ? settings.Real("method.alpha") / rank : 1;
}

WeightChangeMethod::WeightChangeMethod(const WeightChange& change, const nn::TuningSites& sites,
                                       const std::vector<SlotOptions>& slots, const nn::SlotRange& range,
                                       torch::Device device)
    : ParameterMethod(range), change_(change) {
  const settings::Settings& settings = slots.front().settings;
  std::vector<at::Generator> generators;
  for (const SlotOptions& slot : slots) generators.push_back(at::detail::createCPUGenerator(slot.init_seed));
  const std::vector<NamedSite> named = NamedSites(sites);
  for (const size_t index : TargetLayers(named, settings)) {
    std::vector<std::string> names;
    std::vector<torch::Tensor> values;
    for (const ChangeArray& array : change_.arrays(settings, named[index].site.layer->weight.sizes().vec())) {
      std::vector<torch::Tensor> drawn;
      for (const at::Generator& generator : generators) drawn.push_back(DrawStart(array, generator));
      names.push_back(array.name);
      values.push_back(torch::stack(drawn).to(device).set_requires_grad(true));
    }
    Place(named[index], names, std::move(values), AlphaOverRank(settings));
  }
}

WeightChangeMethod::WeightChangeMethod(const WeightChange& change, const nn::TuningSites& sites,
                                       const files::LycorisFile& file, const nn::SlotRange& range, torch::Device device)
    : ParameterMethod(range), change_(change) {
  const torch::NoGradGuard no_grad;
  for (const NamedSite& site : NamedSites(sites)) {
    const auto layer = file.layers.find(site.file_name);
    if (layer == file.layers.end()) continue;
    std::vector<std::string> names;
    std::vector<torch::Tensor> alone, values;
    for (const auto& [name, value] : layer->second.arrays) {  // in the order of WeightChange::arrays: by name
      TORCH_CHECK(value.dim() == 2 || (value.dim() == 4 && name == "lokr_w2"), site.file_name, ".", name, " has ",
                  value.dim(), " dimensions; expected a matrix");
      names.push_back(name);
      alone.push_back(value);
      values.push_back(value.to(device).unsqueeze(0).clone().set_requires_grad(true));
    }
    torch::Tensor delta;
    try {
      delta = change_.delta(alone);
    } catch (const c10::Error&) {
      TORCH_CHECK(false, site.file_name, ": its arrays do not fit each other");
    }
    const torch::Tensor weight = site.site.layer->weight.flatten(1);
    TORCH_CHECK(delta.sizes() == weight.sizes(), site.file_name, ": a change of ", delta.sizes(), " for a weight of ",
                weight.sizes(), ": made for another base");
    Place(site, names, std::move(values), layer->second.scale());
  }
  TORCH_CHECK(placed_.size() == file.layers.size(), "the file has layers that the base does not have");
}

void WeightChangeMethod::Place(const NamedSite& site, const std::vector<std::string>& names,
                               std::vector<torch::Tensor> values, double scale) {
  if (!change_.is_scaled(values.size())) scale = 1;
  for (size_t i = 0; i < names.size(); ++i) {
    parameters_.push_back({site.file_name + "." + names[i], values[i], range_.first});
  }
  attachment_.Add(site.site, std::make_shared<WeightChangeHook>(*site.site.layer, change_, scale, values));
  placed_.push_back({site.file_name, std::move(values), scale});
}

std::unique_ptr<Method> MakeLycorisOf(const files::LycorisFile& file, const nn::TuningSites& sites,
                                      const nn::SlotRange& range, torch::Device device) {
  return std::make_unique<WeightChangeMethod>(file.method == "loha" ? kLoHaChange : kLoKrChange, sites, file, range,
                                              device);
}

absl::Status WeightChangeMethod::Merge(int64_t slot, BaseWeights& weights) const {
  const torch::NoGradGuard no_grad;
  for (const Placed& placed : placed_) {
    torch::Tensor* const weight = FindWeight(weights, placed.name + ".weight");
    TORCH_CHECK(weight != nullptr, "the base has no weight '", placed.name, ".weight'");
    std::vector<torch::Tensor> exact;
    for (const torch::Tensor& value : OfSlot(placed.values, slot - range_.first)) {
      exact.push_back(value.cpu().to(torch::kFloat64));
    }
    const auto sum = weight->cpu().to(torch::kFloat64) + placed.scale * change_.delta(exact).reshape(weight->sizes());
    *weight = sum.to(weight->scalar_type());
  }
  return absl::OkStatus();
}

}  // namespace loupe::worker::methods
