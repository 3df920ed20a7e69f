#include "worker/bench/module_kind.h"

#include <algorithm>
#include <array>
#include <initializer_list>

namespace loupe::worker::bench {
namespace {

constexpr std::array<std::string_view, kModuleKinds> kNames = {"convolution 3×3",
                                                               "convolution 1×1",
                                                               "attention's linear layers",
                                                               "attention",
                                                               "feed-forward",
                                                               "dense layers",
                                                               "ends",
                                                               "state space",
                                                               "condition",
                                                               "embedding",
                                                               "norm",
                                                               "activation",
                                                               "elementwise",
                                                               "method",
                                                               "optimiser",
                                                               "other"};

bool HasAny(std::string_view text, std::initializer_list<std::string_view> parts) {
  return std::any_of(parts.begin(), parts.end(),
                     [&](std::string_view part) { return text.find(part) != std::string_view::npos; });
}

ModuleKind KindOfLinear(std::string_view name) {
  if (HasAny(name, {"attn2.to_k", "attn2.to_v"})) return ModuleKind::kCondition;
  if (HasAny(name, {"to_q", "to_k", "to_v", "to_out", "q_proj", "k_proj", "v_proj", "out_proj"})) {
    return ModuleKind::kAttentionLinear;
  }
  if (HasAny(name, {"ff.net", ".mlp."})) return ModuleKind::kFeedForward;
  // proj_out_1 and proj_out_2 are DiT's: its last modulation, and the way back to patches.
  if (HasAny(name, {"time_emb", "add_embedding", "norm1.", "modulation", "timestep_embedder", "proj_out_1"})) {
    return ModuleKind::kCondition;
  }
  if (HasAny(name, {"x_embedder", "final.linear", "proj_out_2"})) return ModuleKind::kEnds;
  if (HasAny(name, {"proj_in", "proj_out"})) return ModuleKind::kPointConvolution;
  return ModuleKind::kDense;
}

}  // namespace

std::string_view ModuleKindName(ModuleKind kind) { return kNames.at(static_cast<size_t>(kind)); }

ModuleKind KindOfLayer(const nn::LeafLayer& layer, const std::string& name) {
  switch (layer.kind()) {
    case nn::LeafKind::kLinear:
      return KindOfLinear(name);
    case nn::LeafKind::kConv2d:
      if (HasAny(name, {"pos_embed"})) return ModuleKind::kEnds;
      return layer.weight.size(2) == 1 ? ModuleKind::kPointConvolution : ModuleKind::kConvolution;
    case nn::LeafKind::kGroupNorm:
    case nn::LeafKind::kLayerNorm:
      return ModuleKind::kNorm;
    case nn::LeafKind::kEmbedding:
      return ModuleKind::kEmbedding;
    case nn::LeafKind::kStateSpace:
      return ModuleKind::kStateSpace;
  }
  TORCH_CHECK(false, name, ": a layer of no known kind");
}

std::optional<ModuleKind> KindOfOperator(std::string_view name) {
  if (HasAny(name, {"_norm"})) return ModuleKind::kNorm;
  if (HasAny(name, {"silu", "gelu", "relu", "sigmoid", "tanh"})) return ModuleKind::kActivation;
  if (HasAny(name, {"scaled_dot_product", "softmax", "matmul", "bmm"})) return ModuleKind::kAttention;
  if (HasAny(name, {"fft"})) return ModuleKind::kStateSpace;
  return std::nullopt;
}

std::optional<ModuleKind> KindOfRegion(std::string_view name) {
  if (name == "loupe.attention") return ModuleKind::kAttention;
  if (name == "loupe.state_space") return ModuleKind::kStateSpace;
  if (name == "loupe.method") return ModuleKind::kMethod;
  if (name == "loupe.optimiser") return ModuleKind::kOptimiser;
  return std::nullopt;
}

void WeightKinds::AddLayersOf(torch::nn::Module& network) {
  for (const auto& item : network.named_modules("", /*include_self=*/false)) {
    const auto* layer = dynamic_cast<const nn::LeafLayer*>(item.value().get());
    if (layer == nullptr) continue;
    const ModuleKind kind = KindOfLayer(*layer, item.key());
    Add(layer->weight, kind);
    if (layer->bias.defined()) Add(layer->bias, kind);
    for (const torch::Tensor& copy : layer->half_copies()) {
      if (copy.defined()) Add(copy, kind);
    }
  }
}

void WeightKinds::Add(const torch::Tensor& weight, ModuleKind kind) { kinds_[weight.const_data_ptr()] = kind; }

std::optional<ModuleKind> WeightKinds::Find(const torch::Tensor& tensor) const {
  if (!tensor.has_storage() || tensor.numel() == 0) return std::nullopt;
  const auto found = kinds_.find(tensor.const_data_ptr());
  return found == kinds_.end() ? std::nullopt : std::optional(found->second);
}

}  // namespace loupe::worker::bench
