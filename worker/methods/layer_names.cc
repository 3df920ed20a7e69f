#include "worker/methods/layer_names.h"

#include "fmt/format.h"

namespace loupe::worker::methods {

std::vector<NamedSite> NamedSites(const nn::TuningSites& sites) {
  std::vector<NamedSite> named;
  for (const nn::LayerSite& site : sites.denoiser)
    named.push_back({fmt::format("{}{}", kUNetPrefix, site.name), false, site});
  for (const nn::LayerSite& site : sites.conditioner) {
    named.push_back({fmt::format("{}{}", kTextEncoderPrefix, site.name), true, site});
  }
  return named;
}

torch::Tensor* FindWeight(BaseWeights& weights, std::string_view name) {
  const bool conditioner = name.starts_with(kTextEncoderPrefix);
  if (!conditioner && !name.starts_with(kUNetPrefix)) return nullptr;
  name.remove_prefix(conditioner ? kTextEncoderPrefix.size() : kUNetPrefix.size());
  auto& part = conditioner ? weights.conditioner : weights.denoiser;
  const auto found = part.find(std::string(name));
  return found == part.end() ? nullptr : &found->second;
}

absl::Status ReplaceWeights(const std::vector<FilePart>& parts, BaseWeights& weights) {
  std::vector<torch::Tensor*> places;
  for (const FilePart& part : parts) {
    places.push_back(FindWeight(weights, part.name));
    if (places.back() == nullptr || places.back()->sizes() != part.value.sizes()) {
      return absl::InvalidArgumentError(fmt::format("the base has no weight '{}' of this shape", part.name));
    }
  }
  for (size_t i = 0; i < parts.size(); ++i) {
    *places[i] = parts[i].value.detach().cpu().to(places[i]->scalar_type()).clone();
  }
  return absl::OkStatus();
}

}  // namespace loupe::worker::methods
