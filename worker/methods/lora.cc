#include "worker/methods/lora.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "worker/methods/dropout.h"
#include "worker/methods/layer_names.h"
#include "worker/methods/own_weights.h"
#include "worker/methods/target_layers.h"
#include "worker/runtime/autocast_scope.h"

namespace loupe::worker::methods {
namespace {

// Of a slot; per layer of NamedSites.
struct LayerPlan {
  size_t layer;
  int64_t rank;
  double scale;
};

struct SlotPlan {
  std::vector<LayerPlan> layers;  // ascending
  bool dora = false;
  double dropout = 0;
  uint64_t seed = 0;

  const LayerPlan* Find(size_t layer) const {
    const auto found = std::lower_bound(layers.begin(), layers.end(), layer,
                                        [](const LayerPlan& plan, size_t wanted) { return plan.layer < wanted; });
    return found == layers.end() || found->layer != layer ? nullptr : &*found;
  }
};

double ScaleOf(const settings::Settings& settings) {
  const auto rank = static_cast<double>(settings.Integer("method.rank"));
  const double alpha = settings.Has("method.alpha") ? settings.Real("method.alpha") : rank;
  return alpha / (settings.Boolean("method.rslora") ? std::sqrt(rank) : rank);
}

SlotPlan PlanOf(const std::vector<NamedSite>& sites, const SlotOptions& slot) {
  const settings::Settings& settings = slot.settings;
  SlotPlan plan{{}, settings.Boolean("method.dora"), settings.Real("method.dropout"), slot.init_seed};
  for (const size_t layer : TargetLayers(sites, settings)) {
    plan.layers.push_back({layer, settings.Integer("method.rank"), ScaleOf(settings)});
  }
  return plan;
}

// ---- the change of one layer

// Neighbouring slots that agree in their ranks at a layer.
struct Group {
  int64_t first = 0;           // slot of the pack
  std::vector<double> scales;  // per slot
  torch::Tensor mixed_scales;  // [n, 1, 1] where they differ
  torch::Tensor a, b;          // [n, r, in…], [n, out, r…]
  torch::Tensor magnitude;     // [n, out]; undefined without DoRA
  std::vector<double> dropout;
  std::vector<uint64_t> seeds;

  int64_t count() const { return static_cast<int64_t>(scales.size()); }
};

// Of W + s·B·A, over each output's weights; [out]. `w` [out, …].
torch::Tensor NormOfSum(const torch::Tensor& w, const torch::Tensor& a, const torch::Tensor& b, double scale) {
  const auto delta = b.flatten(1).mm(a.flatten(1));
  return (w.flatten(1) + scale * delta).norm(2, {1});
}

class LoraHook : public nn::LayerHook {
 public:
  LoraHook(const nn::LeafLayer& layer, size_t number, nn::SlotRange range, std::vector<Group> groups,
           std::shared_ptr<const PassState> pass)
      : layer_(layer), number_(number), range_(range), groups_(std::move(groups)), pass_(std::move(pass)) {}

  bool extends() const override { return true; }

  torch::Tensor Forward(const torch::Tensor& x, const torch::Tensor& own) const override {
    std::vector<torch::Tensor> pieces;
    int64_t next = 0;  // within the range
    for (const Group& group : groups_) {
      const nn::SlotRange run{group.first - range_.first, group.count(), range_.count};
      if (run.first > next) pieces.push_back(nn::SlotRange{next, run.first - next, range_.count}.Rows(own));
      pieces.push_back(Changed(group, run.Rows(x), run.Rows(own)));
      next = run.end();
    }
    if (next < range_.count) pieces.push_back(nn::SlotRange{next, range_.count - next, range_.count}.Rows(own));
    return pieces.size() == 1 ? pieces.front() : torch::cat(pieces);
  }

 private:
  torch::Tensor Changed(const Group& group, const torch::Tensor& x, const torch::Tensor& own) const {
    const bool plain = !group.magnitude.defined();
    if (plain && layer_.kind() == nn::LeafKind::kLinear) {
      return own + Products(group, Dropped(group, x)).view(own.sizes());
    }
    // Convolutions slot by slot: each as it would be alone.
    std::vector<torch::Tensor> pieces;
    for (int64_t i = 0; i < group.count(); ++i) {
      const nn::SlotRange one{i, 1, group.count()};
      pieces.push_back(ChangedAlone(group, i, one.Rows(x), one.Rows(own)));
    }
    return pieces.size() == 1 ? pieces.front() : torch::cat(pieces);
  }

  // s·B(A(x)) for all slots of the group at once, [n, rows, out].
  static torch::Tensor Products(const Group& group, const torch::Tensor& x) {
    const auto rows = x.reshape({group.count(), -1, x.size(-1)});
    const auto y = rows.bmm(group.a.transpose(1, 2)).bmm(group.b.transpose(1, 2));
    return group.mixed_scales.defined() ? y * group.mixed_scales.to(y.scalar_type()) : y * group.scales.front();
  }

  torch::Tensor ChangedAlone(const Group& group, int64_t i, const torch::Tensor& x, const torch::Tensor& own) const {
    const auto at = static_cast<size_t>(i);
    const torch::Tensor a = group.a[i], b = group.b[i];
    const double scale = group.scales[at];
    const bool drops = pass_->training && group.dropout[at] > 0;
    const torch::Tensor seen = drops ? x * MaskOf(group, at, x) : x;
    const torch::Tensor change = Up(layer_.Apply(seen, a, {}), b);
    if (!group.magnitude.defined()) return own + change * scale;
    torch::Tensor norm;
    {
      const torch::NoGradGuard constant;
      const runtime::AutocastScope exact({x.device().type(), false, torch::kBFloat16});
      norm = NormOfSum(layer_.weight, a, b, scale);
    }
    const auto per_output = [&](const torch::Tensor& values) {
      return (layer_.kind() == nn::LeafKind::kConv2d ? values.view({1, -1, 1, 1}) : values).to(own.scalar_type());
    };
    // As peft has it: without dropout the layer's own output serves, with it W sees the same input as A.
    const torch::Tensor base =
        drops ? layer_.Apply(seen, layer_.weight, {}) : (layer_.bias.defined() ? own - per_output(layer_.bias) : own);
    const torch::Tensor ratio = per_output(group.magnitude[i] / norm);
    return own + (ratio - 1) * base + ratio * change * scale;
  }

  // B on what A gave.
  torch::Tensor Up(const torch::Tensor& h, const torch::Tensor& b) const {
    if (layer_.kind() == nn::LeafKind::kLinear) return torch::linear(h, b);
    if (!h.is_contiguous(at::MemoryFormat::ChannelsLast)) return torch::conv2d(h, b);
    return torch::linear(h.permute({0, 2, 3, 1}), b.flatten(1)).permute({0, 3, 1, 2});
  }

  torch::Tensor MaskOf(const Group& group, size_t i, const torch::Tensor& x) const {
    return pass_->Mask(x, group.dropout[i], group.seeds[i], number_, group.first + static_cast<int64_t>(i));
  }

  torch::Tensor Dropped(const Group& group, const torch::Tensor& x) const {
    const bool drops =
        pass_->training && std::any_of(group.dropout.begin(), group.dropout.end(), [](double p) { return p > 0; });
    if (!drops) return x;
    std::vector<torch::Tensor> masks;
    for (int64_t i = 0; i < group.count(); ++i) {
      masks.push_back(MaskOf(group, static_cast<size_t>(i), nn::SlotRange{i, 1, group.count()}.Rows(x)));
    }
    return x * torch::cat(masks);
  }

  const nn::LeafLayer& layer_;
  const size_t number_;
  const nn::SlotRange range_;
  const std::vector<Group> groups_;  // by first slot
  const std::shared_ptr<const PassState> pass_;
};

// ---- the method

class Lora : public ParameterMethod {
 public:
  Lora(const nn::TuningSites& sites, const std::vector<SlotPlan>& plans, const nn::SlotRange& range,
       torch::Device device)
      : ParameterMethod(range) {
    std::vector<at::Generator> generators;
    generators.reserve(plans.size());
    for (const SlotPlan& plan : plans) generators.push_back(at::detail::createCPUGenerator(plan.seed));
    const std::vector<NamedSite> named = NamedSites(sites);
    for (size_t i = 0; i < named.size(); ++i) PlaceAt(named[i], i, plans, generators, device);
  }

  void BeginTraining(const std::vector<int64_t>& draws, const runtime::RowShare& rows, KeptMasks* kept) override {
    TORCH_CHECK(static_cast<int64_t>(draws.size()) == range_.total, "a training pass needs a number per slot");
    *pass_ = {true, draws, rows, kept};
  }
  void EndTraining() override { pass_->training = false; }

  absl::Status Merge(int64_t slot, BaseWeights& weights) const override {
    torch::NoGradGuard no_grad;
    for (const Placed& placed : placed_) {
      for (const Group& group : placed.groups) {
        if (slot < group.first || slot >= group.first + group.count()) continue;
        torch::Tensor* const weight = FindWeight(weights, placed.name + ".weight");
        TORCH_CHECK(weight != nullptr, "the base has no weight '", placed.name, ".weight'");
        *weight = Merged(group, slot - group.first, *weight);
      }
    }
    return absl::OkStatus();
  }

 private:
  struct Placed {
    std::string name;
    std::vector<Group> groups;
  };

  std::vector<FilePart> PartsOf(int64_t slot) const override {
    std::vector<FilePart> parts = ParameterMethod::PartsOf(slot);
    for (FilePart& part : parts) {
      // peft keeps a convolution's magnitudes with the dimensions of its output.
      if (convolutions_.contains(part.name)) part.value = part.value.view({1, -1, 1, 1});
    }
    return parts;
  }

  static torch::Tensor Merged(const Group& group, int64_t i, const torch::Tensor& weight) {
    const auto exact = [](const torch::Tensor& value) { return value.cpu().to(torch::kFloat64); };
    const auto delta = exact(group.b[i]).flatten(1).mm(exact(group.a[i]).flatten(1));
    auto sum = exact(weight).flatten(1) + group.scales[static_cast<size_t>(i)] * delta;
    if (group.magnitude.defined()) sum = sum * (exact(group.magnitude[i]) / sum.norm(2, {1})).unsqueeze(1);
    return sum.view(weight.sizes()).to(weight.scalar_type());
  }

  void PlaceAt(const NamedSite& named, size_t number, const std::vector<SlotPlan>& plans,
               std::vector<at::Generator>& generators, torch::Device device) {
    Placed placed{named.file_name, {}};
    for (size_t k = 0; k < plans.size();) {
      const LayerPlan* const plan = plans[k].Find(number);
      if (plan == nullptr) {
        ++k;
        continue;
      }
      const auto joins = [&](size_t other) {
        const LayerPlan* const next = plans[other].Find(number);
        return next != nullptr && next->rank == plan->rank && plans[other].dora == plans[k].dora;
      };
      size_t end = k + 1;
      while (end < plans.size() && joins(end)) ++end;
      placed.groups.push_back(MakeGroup(*named.site.layer, number, plans, k, end, generators, device));
      AddParameters(named, placed.groups.back());
      k = end;
    }
    if (placed.groups.empty()) return;
    attachment_.Add(named.site, std::make_shared<LoraHook>(*named.site.layer, number, range_, placed.groups, pass_));
    placed_.push_back(std::move(placed));
  }

  Group MakeGroup(const nn::LeafLayer& layer, size_t number, const std::vector<SlotPlan>& plans, size_t first,
                  size_t end, std::vector<at::Generator>& generators, torch::Device device) const {
    Group group;
    group.first = range_.first + static_cast<int64_t>(first);
    std::vector<int64_t> shape = layer.weight.sizes().vec();
    const int64_t outputs = shape.front(), rank = plans[first].Find(number)->rank;
    shape.front() = rank;
    const double bound = 1.0 / std::sqrt(static_cast<double>(layer.weight[0].numel()));
    std::vector<torch::Tensor> downs;
    for (size_t k = first; k < end; ++k) {
      downs.push_back(torch::empty(shape).uniform_(-bound, bound, generators[k]));
      group.scales.push_back(plans[k].Find(number)->scale);
      group.dropout.push_back(plans[k].dropout);
      group.seeds.push_back(Mixed(plans[k].seed));
    }
    if (std::set<double>(group.scales.begin(), group.scales.end()).size() > 1) {
      group.mixed_scales = torch::tensor(group.scales, torch::kFloat32).view({-1, 1, 1}).to(device);
    }
    group.a = torch::stack(downs).to(device).set_requires_grad(true);
    shape.assign(shape.size(), 1);
    shape[0] = outputs;
    shape[1] = rank;
    shape.insert(shape.begin(), group.count());
    group.b = torch::zeros(shape, device).set_requires_grad(true);
    if (plans[first].dora) {
      const auto norm = layer.weight.detach().to(torch::kFloat32).flatten(1).norm(2, {1});
      group.magnitude = norm.repeat({group.count(), 1}).to(device).set_requires_grad(true);
    }
    return group;
  }

  void AddParameters(const NamedSite& named, const Group& group) {
    parameters_.push_back({named.file_name + ".lora_A.weight", group.a, group.first});
    parameters_.push_back({named.file_name + ".lora_B.weight", group.b, group.first});
    if (!group.magnitude.defined()) return;
    parameters_.push_back({named.file_name + ".lora_magnitude_vector", group.magnitude, group.first});
    if (named.site.layer->kind() == nn::LeafKind::kConv2d) convolutions_.insert(parameters_.back().name);
  }

  const std::shared_ptr<PassState> pass_ = std::make_shared<PassState>();
  std::set<std::string> convolutions_;  // names of their magnitudes
  std::vector<Placed> placed_;
};

}  // namespace

std::unique_ptr<Method> MakeLora(const nn::TuningSites& sites, const std::vector<SlotOptions>& slots,
                                 const nn::SlotRange& range, torch::Device device) {
  const std::vector<NamedSite> named = NamedSites(sites);
  std::vector<SlotPlan> plans;
  plans.reserve(slots.size());
  for (const SlotOptions& slot : slots) plans.push_back(PlanOf(named, slot));
  return std::make_unique<Lora>(sites, plans, range, device);
}

std::unique_ptr<Method> MakeLoraOf(const files::LoraFile& file, const nn::TuningSites& sites,
                                   const nn::SlotRange& range, torch::Device device) {
  const std::vector<NamedSite> named = NamedSites(sites);
  SlotPlan plan;
  for (size_t i = 0; i < named.size(); ++i) {
    const auto found = file.layers.find(named[i].file_name);
    if (found == file.layers.end()) continue;
    plan.layers.push_back({i, found->second.rank(), found->second.scale});
    plan.dora = plan.dora || found->second.magnitude.defined();
  }
  TORCH_CHECK(plan.layers.size() == file.layers.size(), "the LoRA has layers that the base does not have");
  auto method = std::make_unique<Lora>(sites, std::vector{plan}, range, device);
  method->Import(range.first, files::DiffusersLoraArrays(file));
  return method;
}

files::LoraFile LoraFileOf(const std::map<std::string, torch::Tensor>& arrays, const settings::Settings& settings) {
  files::LoraFile file;
  file.rslora = settings.Boolean("method.rslora");
  const double scale = ScaleOf(settings);
  for (const auto& [name, value] : arrays) {
    for (const auto& [ending, member] : {std::pair{".lora_A.weight", &files::LoraLayer::a},
                                         {".lora_B.weight", &files::LoraLayer::b},
                                         {".lora_magnitude_vector", &files::LoraLayer::magnitude}}) {
      if (!name.ends_with(ending)) continue;
      files::LoraLayer& layer = file.layers[name.substr(0, name.size() - std::string_view(ending).size())];
      layer.*member = member == &files::LoraLayer::magnitude ? value.flatten() : value;
      layer.scale = scale;
    }
  }
  for (const auto& [name, layer] : file.layers) {
    TORCH_CHECK(layer.a.defined() && layer.b.defined(), name, ": one of the LoRA's two matrices is missing");
  }
  return file;
}

}  // namespace loupe::worker::methods
