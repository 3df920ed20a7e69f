// OFT (Qiu et al. 2023, arXiv 2306.07280): a layer's inputs are turned before it, block by block of b channels, by
// rotations that start at the identity and stay rotations whatever is trained:
//
//   y = W R x + b,   R = blockdiag(R_1, R_2, …),   R_i a function of a skew-symmetric Q_i (Q_iᵀ = −Q_i)
//
//   exact     x ← x (I − Q)(I + Q)⁻¹, Cayley's transform, the paper's
//   neumann   x ← x (I + 2Q + 2Q² + 2Q³ + Q⁴), its series the other way round, cut off (OFTv2, arXiv 2506.19847): no
//             inverse, and a rotation up to |Q|⁵
//
// (x as a row of b channels.) Trained are Q's entries above the diagonal, row by row. Names, shapes and both formulas
// are peft's, and so is the size of a layer's blocks: the divisor of its inputs that is nearest to method.block_size,
// the lesser of two. Merging is exact: W's columns are turned instead.
#include <torch/utils.h>

#include <algorithm>
#include <utility>

#include "worker/methods/own_weights.h"
#include "worker/methods/target_layers.h"

namespace loupe::worker::methods {
namespace {

int64_t BlockSize(int64_t inputs, int64_t asked) {
  if (asked >= inputs) return inputs;
  int64_t more = asked, less = asked;
  while (inputs % more != 0) ++more;
  while (inputs % less != 0) --less;
  return asked - less <= more - asked ? less : more;
}

// values: [n, b(b − 1)/2] → [n, b, b].
torch::Tensor Rotations(const torch::Tensor& values, int64_t b, bool exact) {
  const auto above = torch::triu_indices(b, b, 1, torch::dtype(torch::kInt64).device(values.device()));
  const auto upper = torch::zeros({values.size(0), b * b}, values.options().requires_grad(false))
                         .index_add(1, above[0] * b + above[1], values)
                         .view({-1, b, b});
  const auto q = upper - upper.transpose(1, 2);
  const auto identity = torch::eye(b, values.options().requires_grad(false));
  // The two factors commute.
  if (exact) return at::linalg_solve(identity + q, identity - q);
  const auto squared = q.bmm(q);
  return identity + 2 * q + 2 * squared + 2 * squared.bmm(q) + squared.bmm(squared);
}

class OftHook : public nn::LayerHook {
 public:
  OftHook(const nn::LeafLayer& layer, torch::Tensor values, int64_t block, bool exact)
      : layer_(layer), values_(std::move(values)), block_(block), exact_(exact) {}

  bool extends() const override { return false; }

  torch::Tensor Forward(const torch::Tensor& x, const torch::Tensor& /*own*/) const override {
    const int64_t count = values_.size(0), blocks = values_.size(1);
    const auto rotations = Rotations(values_.flatten(0, 1), block_, exact_);
    const bool picture = layer_.kind() == nn::LeafKind::kConv2d;
    const auto rows = picture ? x.permute({0, 2, 3, 1}) : x;
    const auto parts = rows.reshape({count, -1, blocks, block_}).transpose(1, 2).flatten(0, 1);
    const auto turned = parts.bmm(rotations.to(x.scalar_type())).unflatten(0, {count, blocks}).transpose(1, 2);
    const auto back = turned.reshape(rows.sizes());
    return layer_.Apply(picture ? back.permute({0, 3, 1, 2}) : back, layer_.weight, layer_.bias);
  }

 private:
  const nn::LeafLayer& layer_;
  const torch::Tensor values_;  // [K, blocks, b(b − 1)/2]
  const int64_t block_;
  const bool exact_;
};

class Oft : public ParameterMethod {
 public:
  Oft(const nn::TuningSites& sites, const settings::Settings& settings, const nn::SlotRange& range,
      torch::Device device)
      : ParameterMethod(range), exact_(settings.Text("method.cayley") == "exact") {
    const std::vector<NamedSite> named = NamedSites(sites);
    for (const size_t index : TargetLayers(named, settings)) {
      const NamedSite& site = named[index];
      const torch::Tensor& weight = site.site.layer->weight;
      const int64_t inputs = weight.size(1), block = BlockSize(inputs, settings.Integer("method.block_size"));
      TORCH_CHECK(weight[0].numel() == inputs, "oft turns the inputs of linear layers and 1×1 convolutions, and '",
                  site.site.name, "' is a convolution of ", weight.size(2), "×", weight.size(3),
                  "; expected method.targets attention, cross-attention, linear or names of others");
      const auto values = torch::zeros({range.count, inputs / block, block * (block - 1) / 2}, device);
      values.set_requires_grad(true);
      parameters_.push_back({site.file_name + ".oft_R.weight", values, range.first});
      attachment_.Add(site.site, std::make_shared<OftHook>(*site.site.layer, values, block, exact_));
      placed_.push_back({site.file_name, values, block});
    }
  }

  absl::Status Merge(int64_t slot, BaseWeights& weights) const override {
    const torch::NoGradGuard no_grad;
    for (const Placed& placed : placed_) {
      torch::Tensor* const weight = FindWeight(weights, placed.name + ".weight");
      TORCH_CHECK(weight != nullptr, "the base has no weight '", placed.name, ".weight'");
      const auto values = placed.values[slot - range_.first].cpu().to(torch::kFloat64);
      const auto rotations = Rotations(values, placed.block, exact_);
      // [blocks, out, b] of W, times Rᵀ.
      const auto parts = weight->cpu().to(torch::kFloat64).reshape({weight->size(0), -1, placed.block}).transpose(0, 1);
      const auto turned = parts.bmm(rotations.transpose(1, 2)).transpose(0, 1);
      *weight = turned.reshape(weight->sizes()).to(weight->scalar_type());
    }
    return absl::OkStatus();
  }

 private:
  struct Placed {
    std::string name;
    torch::Tensor values;
    int64_t block;
  };
  const bool exact_;
  std::vector<Placed> placed_;
};

}  // namespace

// Reads method.{block_size, cayley, targets, text_encoder}.
std::unique_ptr<Method> MakeOft(const nn::TuningSites& sites, const std::vector<SlotOptions>& slots,
                                const nn::SlotRange& range, torch::Device device) {
  return std::make_unique<Oft>(sites, slots.front().settings, range, device);
}

}  // namespace loupe::worker::methods
