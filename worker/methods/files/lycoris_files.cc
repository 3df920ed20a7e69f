#include "worker/methods/files/lycoris_files.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/io/safetensors.h"
#include "worker/methods/layer_names.h"
#include "worker/models/weights.h"
#include "worker/runtime/finite.h"

namespace loupe::worker::methods::files {
namespace {

constexpr std::string_view kAlphaName = "alpha";

std::string KohyaLayer(std::string_view file_name) {
  const bool conditioner = file_name.starts_with(kTextEncoderPrefix);
  file_name.remove_prefix(conditioner ? std::string_view("text_encoder.").size() : kUNetPrefix.size());
  return (conditioner ? "lora_te_" : "lora_unet_") + absl::StrReplaceAll(std::string(file_name), {{".", "_"}});
}

// The sets of arrays that a layer may have.
const std::vector<std::pair<std::string, std::set<std::string>>>& KnownForms() {
  static const std::vector<std::pair<std::string, std::set<std::string>>> forms = {
      {"loha", {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}},
      {"lokr", {"lokr_w1", "lokr_w2_a", "lokr_w2_b"}},
      {"lokr", {"lokr_w1", "lokr_w2"}}};
  return forms;
}

std::string FormOf(const LycorisLayer& layer) {
  std::set<std::string> names;
  for (const auto& [name, value] : layer.arrays) names.insert(name);
  for (const auto& [method, form] : KnownForms()) {
    if (names == form) return method;
  }
  return "";
}

std::pair<std::string, std::string> SplitAtFirstDot(const std::string& name) {
  const size_t dot = name.find('.');
  return {name.substr(0, dot), dot == std::string::npos ? "" : name.substr(dot + 1)};
}

}  // namespace

int64_t LycorisLayer::rank() const {
  for (const char* second : {"hada_w1_b", "lokr_w2_b"}) {
    if (const auto found = arrays.find(second); found != arrays.end()) return found->second.size(0);
  }
  return 0;
}

bool IsLycorisName(const std::string& name) {
  return name.find(".hada_") != std::string::npos || name.find(".lokr_") != std::string::npos;
}

absl::StatusOr<LycorisFile> ReadLycoris(const std::string& path, const nn::TuningSites& sites) {
  LOUPE_ASSIGN_OR_RETURN(const io::SafetensorsFile opened, io::SafetensorsFile::Open(path));
  std::map<std::string, std::string> layers;  // by their names there
  for (const NamedSite& named : NamedSites(sites)) {
    const std::string name = KohyaLayer(named.file_name);
    layers[name] = named.file_name;
    if (!named.conditioner) layers["lycoris_" + name.substr(std::string_view("lora_unet_").size())] = named.file_name;
  }
  const auto bad = [&](const std::string& sentence) {
    return absl::InvalidArgumentError(fmt::format("{}: {}", path, sentence));
  };
  LycorisFile file;
  std::set<std::string> with_alpha;
  for (const auto& [name, view] : opened.arrays()) {
    const auto [layer_name, array] = SplitAtFirstDot(name);
    const auto found = layers.find(layer_name);
    if (found == layers.end()) return bad(fmt::format("'{}': the base has no layer of this name", name));
    const torch::Tensor value = models::ToTensor(view).to(torch::kFloat32);
    if (const std::string odd = runtime::DescribeNotFinite(value); !odd.empty())
      return bad(fmt::format("'{}': {}", name, odd));
    LycorisLayer& layer = file.layers[found->second];
    if (array == kAlphaName) {
      if (value.numel() != 1) return bad(fmt::format("'{}' is no single number", name));
      layer.alpha = value.item<double>();
      with_alpha.insert(found->second);
    } else {
      layer.arrays[array] = value;
    }
  }
  if (file.layers.empty()) return bad("holds no arrays of a LoHa or LoKr");
  for (auto& [name, layer] : file.layers) {
    const std::string form = FormOf(layer);
    if (form.empty()) {
      std::vector<std::string> names;
      for (const auto& [array, value] : layer.arrays) names.push_back(array);
      return bad(
          fmt::format("{} has the arrays {}; expected hada_w1_a, hada_w1_b, hada_w2_a and hada_w2_b, or lokr_w1 "
                      "with lokr_w2 or lokr_w2_a and lokr_w2_b",
                      name, absl::StrJoin(names, ", ")));
    }
    if (file.method.empty()) file.method = form;
    if (file.method != form) return bad("some of its layers are a LoHa's and some a LoKr's");
    if (!with_alpha.contains(name)) layer.alpha = static_cast<double>(layer.rank());
  }
  return file;
}

absl::Status WriteLycoris(const std::string& folder, const LycorisFile& file) {
  std::map<std::string, torch::Tensor> arrays;
  for (const auto& [name, layer] : file.layers) {
    const std::string own = KohyaLayer(name) + ".";
    for (const auto& [array, value] : layer.arrays) arrays[own + array] = value;
    arrays[own + std::string(kAlphaName)] = torch::tensor(layer.alpha, torch::kFloat32);
  }
  return io::WriteSafetensors(folder + "/lora.safetensors", models::ToArrays(arrays).views,
                              {{"format", "pt"},
                               {"ss_network_module", "lycoris.kohya"},
                               {"ss_network_args", fmt::format(R"({{"algo": "{}"}})", file.method)}});
}

LycorisFile LycorisFileOf(const std::string& method, const std::map<std::string, torch::Tensor>& arrays,
                          double alpha_over_rank) {
  LycorisFile file{.method = method, .layers = {}};
  for (const auto& [name, value] : arrays) {
    const size_t dot = name.rfind('.');
    file.layers[name.substr(0, dot)].arrays[name.substr(dot + 1)] = value;
  }
  for (auto& [name, layer] : file.layers)
    layer.alpha = alpha_over_rank * static_cast<double>(std::max<int64_t>(layer.rank(), 1));
  return file;
}

}  // namespace loupe::worker::methods::files
