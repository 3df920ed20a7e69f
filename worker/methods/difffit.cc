// DiffFit (Xie et al. 2023, arXiv 2304.06648): the biases, the norms' weights, a class-conditional base's class
// embedding, and factors γ per channel that start at 1, on linear layers of the transformer blocks.
//
//   qkv      γ ⊙ (W x + b) at to_q, to_k and to_v             proj   the same at to_out.0
//   ff       the same at both layers of the feed-forward      branch x + γ ⊙ f(x) for each attention and the
//   feed-forward
//
// The last layer of a branch being linear, its γ lies there too (before a gate, which multiplies channels as well), and
// all of them are exact changes of W and b. The paper's counts at DiT-XL/2 come out with qkv and proj in all 28 blocks
// and branch in the first 14, its best: the defaults.
#include <torch/utils.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "worker/methods/layer_names.h"
#include "worker/methods/own_weights.h"
#include "worker/methods/per_channel.h"

namespace loupe::worker::methods {
namespace {

bool IsNorm(nn::LeafKind kind) { return kind == nn::LeafKind::kGroupNorm || kind == nn::LeafKind::kLayerNorm; }

// What is trained at one layer, each [K, …]; undefined where it is not.
struct LayerValues {
  torch::Tensor weight;        // of a norm, or the rows of an embedding
  torch::Tensor bias;          // [K, out]
  torch::Tensor gamma;         // [K, out]
  torch::Tensor branch_gamma;  // [K, out]

  bool any() const { return weight.defined() || bias.defined() || gamma.defined() || branch_gamma.defined(); }
};

// γ_branch ⊙ γ ⊙ (f(x) + b), with the slots' own of what is trained.
class DiffFitHook : public nn::LayerHook {
 public:
  DiffFitHook(const nn::LeafLayer& layer, LayerValues values) : layer_(layer), values_(std::move(values)) {}

  bool extends() const override { return false; }

  torch::Tensor Forward(const torch::Tensor& x, const torch::Tensor& /*own*/) const override {
    if (layer_.kind() == nn::LeafKind::kEmbedding) return Rows(x);
    const bool own_weight = values_.weight.defined();
    torch::Tensor y = layer_.Apply(x, own_weight ? torch::Tensor() : layer_.weight,
                                   values_.bias.defined() ? torch::Tensor() : layer_.bias);
    const auto on = [&](const torch::Tensor& values) { return PerChannel(values, y, layer_.kind()); };
    if (own_weight) y = y * on(values_.weight);
    if (values_.bias.defined()) y = y + on(values_.bias);
    if (values_.gamma.defined()) y = y * on(values_.gamma);
    if (values_.branch_gamma.defined()) y = y * on(values_.branch_gamma);
    return y;
  }

 private:
  // Each slot's ids in its own table.
  torch::Tensor Rows(const torch::Tensor& ids) const {
    std::vector<torch::Tensor> pieces;
    const int64_t count = values_.weight.size(0);
    for (int64_t k = 0; k < count; ++k) {
      pieces.push_back(layer_.Apply(nn::SlotRange{k, 1, count}.Rows(ids), values_.weight[k], {}));
    }
    return pieces.size() == 1 ? pieces.front() : torch::cat(pieces);
  }

  const nn::LeafLayer& layer_;
  const LayerValues values_;
};

// ---- which γ

// Where in its transformer block a linear layer stands.
struct GammaPlace {
  std::string module;  // a word of method.gamma
  std::string branch;  // the end of its branch: attn1, attn2 or ff; else empty
};

std::optional<GammaPlace> GammaPlaceOf(const std::string& in_block) {
  for (const char* attention : {"attn1", "attn2"}) {
    for (const char* layer : {".to_q", ".to_k", ".to_v"}) {
      if (in_block == std::string(attention) + layer) return GammaPlace{"qkv", ""};
    }
    if (in_block == std::string(attention) + ".to_out.0") return GammaPlace{"proj", attention};
  }
  if (in_block == "ff.net.0.proj") return GammaPlace{"ff", ""};
  if (in_block == "ff.net.2") return GammaPlace{"ff", "ff"};
  return std::nullopt;
}

class GammaChoice {
 public:
  GammaChoice(const nn::TuningSites& sites, const settings::Settings& settings)
      : modules_(settings.Names("method.gamma")),
        shallow_first_(settings.Text("method.gamma_from") == "first"),
        branch_blocks_(settings.Integer("method.gamma_blocks")) {
    for (const nn::TappableBlock& block : sites.blocks) {
      if (block.kind == nn::BlockKind::kTransformer) blocks_.push_back(block.name);
    }
    TORCH_CHECK(!blocks_.empty() || modules_ == std::vector<std::string>{"none"},
                "the base has no transformer blocks for method.gamma; expected none");
    TORCH_CHECK(modules_.size() == 1 || !Asked("none"), "method.gamma: 'none' stands alone; expected it without the ",
                modules_.size() - 1, " others");
  }

  struct At {
    bool gamma = false;
    std::string block, branch;  // of a branch's γ; else empty
  };
  At Of(const std::string& layer) {
    for (size_t i = 0; i < blocks_.size(); ++i) {
      if (!layer.starts_with(blocks_[i] + ".")) continue;
      const auto place = GammaPlaceOf(layer.substr(blocks_[i].size() + 1));
      if (!place.has_value()) break;
      found_.insert(place->module);
      if (!place->branch.empty()) found_.insert("branch");
      const auto depth = static_cast<int64_t>(shallow_first_ ? i : blocks_.size() - 1 - i);
      const bool branch = !place->branch.empty() && Asked("branch") && depth < branch_blocks_;
      return {Asked(place->module), branch ? blocks_[i] : "", branch ? place->branch : ""};
    }
    return {};
  }

  // After all layers: throws when something was asked for that the base does not have.
  void CheckFound() const {
    for (const std::string& module : modules_) {
      TORCH_CHECK(module == "none" || found_.contains(module), "method.gamma '", module,
                  "' fits no layer of the base's blocks (attn1.to_q, attn1.to_out.0, ff.net.2 and so on)");
    }
  }

 private:
  bool Asked(const std::string& module) const {
    return std::find(modules_.begin(), modules_.end(), module) != modules_.end();
  }

  const std::vector<std::string> modules_;
  const bool shallow_first_;
  const int64_t branch_blocks_;
  std::vector<std::string> blocks_;  // in the network's order
  std::set<std::string> found_;      // words of method.gamma for which there is a layer
};

// ---- the method

class DiffFit : public ParameterMethod {
 public:
  DiffFit(const nn::TuningSites& sites, const settings::Settings& settings, const nn::SlotRange& range,
          torch::Device device)
      : ParameterMethod(range) {
    GammaChoice choice(sites, settings);
    for (const NamedSite& named : NamedSites(sites)) {
      if (named.conditioner) continue;
      const nn::LeafLayer& layer = *named.site.layer;
      LayerValues values;
      const auto train = [&](torch::Tensor& value, const std::string& name, const torch::Tensor& start) {
        if (!start.defined()) return;
        std::vector<int64_t> copies(static_cast<size_t>(start.dim()) + 1, 1);
        copies.front() = range.count;
        value = start.detach().to(device, torch::kFloat32).unsqueeze(0).repeat(copies).set_requires_grad(true);
        parameters_.push_back({name, value, range.first});
      };
      if (IsNorm(layer.kind()) || layer.kind() == nn::LeafKind::kEmbedding) {
        train(values.weight, named.file_name + ".weight", layer.weight);
      }
      train(values.bias, named.file_name + ".bias", layer.bias);
      if (layer.kind() == nn::LeafKind::kLinear) {
        const GammaChoice::At at = choice.Of(named.site.name);
        const auto ones = [&](bool wanted) { return wanted ? torch::ones({layer.weight.size(0)}) : torch::Tensor(); };
        train(values.gamma, named.file_name + ".gamma", ones(at.gamma));
        train(values.branch_gamma, std::string(kUNetPrefix) + at.block + ".gamma_" + at.branch,
              ones(!at.branch.empty()));
      }
      if (!values.any()) continue;
      attachment_.Add(named.site, std::make_shared<DiffFitHook>(layer, values));
      placed_.push_back({named.file_name, values});
    }
    choice.CheckFound();
    TORCH_CHECK(!parameters_.empty(), "the base's network has nothing that DiffFit trains");
  }

  absl::Status Merge(int64_t slot, BaseWeights& weights) const override {
    const torch::NoGradGuard no_grad;
    const int64_t k = slot - range_.first;
    for (const Placed& placed : placed_) {
      const auto change = [&](const char* name, auto&& with) {
        torch::Tensor* const array = FindWeight(weights, placed.name + name);
        if (array != nullptr) *array = with(array->cpu().to(torch::kFloat64)).to(array->scalar_type());
      };
      const auto exact = [&](const torch::Tensor& value) { return value[k].cpu().to(torch::kFloat64); };
      const auto scaled = [&](torch::Tensor value) {
        for (const torch::Tensor& gamma : {placed.values.gamma, placed.values.branch_gamma}) {
          if (!gamma.defined()) continue;
          value = (exact(gamma).view({-1, 1}) * value.view({value.size(0), -1})).view(value.sizes());
        }
        return value;
      };
      change(".weight", [&](const torch::Tensor& own) {
        return placed.values.weight.defined() ? exact(placed.values.weight) : scaled(own);
      });
      change(".bias", [&](const torch::Tensor& own) {
        return scaled(placed.values.bias.defined() ? exact(placed.values.bias) : own);
      });
    }
    return absl::OkStatus();
  }

 private:
  struct Placed {
    std::string name;
    LayerValues values;
  };
  std::vector<Placed> placed_;
};

}  // namespace

// Reads method.{gamma, gamma_blocks, gamma_from}. All slots of a layer are computed together.
std::unique_ptr<Method> MakeDiffFit(const nn::TuningSites& sites, const std::vector<SlotOptions>& slots,
                                    const nn::SlotRange& range, torch::Device device) {
  return std::make_unique<DiffFit>(sites, slots.front().settings, range, device);
}

}  // namespace loupe::worker::methods
