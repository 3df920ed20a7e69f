#include "worker/methods/target_layers.h"

#include <algorithm>
#include <optional>
#include <string>

#include "absl/strings/str_join.h"

namespace loupe::worker::methods {
namespace {

bool IsMatrix(const nn::LeafLayer& layer) {
  return layer.kind() == nn::LeafKind::kLinear || layer.kind() == nn::LeafKind::kConv2d;
}

bool FitsAny(const std::vector<std::string>& patterns, const std::string& name) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const auto& pattern) { return settings::FitsName(pattern, name); });
}

// Whether the group of layers that a word of method.targets stands for has this one in it; nullopt: it is no such word.
std::optional<bool> InTargetGroup(const std::string& word, const NamedSite& named) {
  const std::string& name = named.site.name;
  const bool linear = named.site.layer->kind() == nn::LeafKind::kLinear;
  if (named.conditioner) {
    const bool attention = FitsAny({"q_proj", "k_proj", "v_proj", "out_proj"}, name);
    if (word == "attention" || word == "cross-attention") return attention;
    if (word == "linear" || word == "all") return attention || FitsAny({"fc1", "fc2"}, name);
    return std::nullopt;
  }
  const bool attention = linear && FitsAny({"to_q", "to_k", "to_v", "to_out.0"}, name);
  if (word == "attention") return attention;
  if (word == "cross-attention") return attention && settings::FitsName("attn2", name);
  if (word == "linear") return linear && FitsAny({"transformer_blocks", "blocks"}, name);
  if (word == "all") return IsMatrix(*named.site.layer);
  return std::nullopt;
}

}  // namespace

std::vector<size_t> TargetLayers(const std::vector<NamedSite>& sites, const settings::Settings& settings) {
  const std::vector<std::string> targets = settings.Names("method.targets");
  const bool text = settings.Boolean("method.text_encoder");
  std::vector<size_t> layers;
  std::vector<bool> used(targets.size());
  bool in_denoiser = false, in_conditioner = false;
  for (size_t i = 0; i < sites.size(); ++i) {
    if (sites[i].conditioner && !text) continue;
    bool chosen = false;
    for (size_t t = 0; t < targets.size(); ++t) {
      const bool fits =
          InTargetGroup(targets[t], sites[i])
              .value_or(IsMatrix(*sites[i].site.layer) && settings::FitsName(targets[t], sites[i].site.name));
      used[t] = used[t] || fits;
      chosen = chosen || fits;
    }
    if (!chosen) continue;
    (sites[i].conditioner ? in_conditioner : in_denoiser) = true;
    layers.push_back(i);
  }
  for (size_t t = 0; t < targets.size(); ++t) {
    TORCH_CHECK(used[t], "method.targets '", targets[t],
                "' fits no linear layer or convolution of the base; its layers are "
                "called ",
                sites.empty() ? "" : sites.front().site.name, " and so on, as in the checkpoint");
  }
  TORCH_CHECK(in_denoiser || in_conditioner, "method.targets '", absl::StrJoin(targets, " "), "' fits no layer");
  TORCH_CHECK(!text || in_conditioner, "method.text_encoder is true, but method.targets '", absl::StrJoin(targets, " "),
              "' fits no layer of the text encoder (q_proj, k_proj, v_proj, out_proj, fc1, fc2)");
  return layers;
}

}  // namespace loupe::worker::methods
