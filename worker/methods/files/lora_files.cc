#include "worker/methods/files/lora_files.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_replace.h"
#include "common/atomic_file.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "nlohmann/json.hpp"
#include "worker/io/weight_files.h"
#include "worker/methods/files/lora_names.h"
#include "worker/methods/layer_names.h"
#include "worker/models/weights.h"
#include "worker/runtime/finite.h"

namespace loupe::worker::methods::files {
namespace {

using nlohmann::json;

constexpr char kAdapterMetadataKey[] = "lora_adapter_metadata";
constexpr char kPeftPrefix[] = "base_model.model.";
constexpr char kConfigFile[] = "adapter_config.json";
constexpr char kPeftWeights[] = "adapter_model.safetensors";

// The layers of a base by all the names that files have for them.
class LayerIndex {
 public:
  explicit LayerIndex(const nn::TuningSites& sites) {
    for (const NamedSite& named : NamedSites(sites)) {
      const nn::LeafKind kind = named.site.layer->kind();
      if (kind != nn::LeafKind::kLinear && kind != nn::LeafKind::kConv2d) continue;
      shapes_[named.file_name] = named.site.layer->weight.sizes().vec();
      for (const std::string& name :
           {named.site.name, named.conditioner ? "text_model." + named.site.name : named.site.name}) {
        auto& names = named.conditioner ? conditioner_ : denoiser_;
        names[name] = named.file_name;
        names[absl::StrReplaceAll(name, {{".", "_"}})] = named.file_name;
      }
    }
  }
  // Empty when there is none.
  std::string Find(std::optional<bool> conditioner, const std::string& name) const {
    for (const bool which : {false, true}) {
      if (conditioner.has_value() && *conditioner != which) continue;
      const auto& names = which ? conditioner_ : denoiser_;
      if (const auto found = names.find(name); found != names.end()) return found->second;
    }
    return "";
  }
  const std::vector<int64_t>& ShapeOf(const std::string& file_name) const { return shapes_.at(file_name); }

 private:
  std::map<std::string, std::string> denoiser_, conditioner_;
  std::map<std::string, std::vector<int64_t>> shapes_;
};

std::string ShapeText(const torch::Tensor& value) {
  std::string text;
  for (const int64_t size : value.sizes()) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return "[" + text + "]";
}

absl::Status Bad(const std::string& path, const std::string& sentence) {
  return absl::InvalidArgumentError(fmt::format("{}: {}", path, sentence));
}

bool Takes(std::string& name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return false;
  name.erase(0, prefix.size());
  return true;
}

// ---- configurations

// alpha and the like of one of the two networks, from a JSON object in the form of peft's LoraConfig.
struct Config {
  bool given = false;
  double alpha = 0;
  std::map<std::string, double> alphas;  // of single layers, by the end of their names
  bool rslora = false;

  double AlphaOf(const std::string& layer) const {
    for (const auto& [pattern, value] : alphas) {
      const std::string ending = pattern.starts_with("^") ? pattern.substr(1) : pattern;
      if (layer == ending || layer.ends_with("." + ending)) return value;
    }
    return alpha;
  }
};

absl::StatusOr<Config> ParseConfig(const std::string& path, const json& object, const std::string& prefix) {
  Config config;
  const auto at = [&](const char* key) -> json {
    const auto found = object.find(prefix + key);
    return found == object.end() ? json() : *found;
  };
  if (!object.contains(prefix + "r")) return config;
  if (const json type = at("peft_type"); !type.is_null() && type != "LORA") {
    return Bad(path, fmt::format("peft_type is {}; expected LORA", type.dump()));
  }
  for (const auto& [key, neutral] : {std::pair<const char*, json>{"bias", "none"},
                                     {"lora_bias", false},
                                     {"fan_in_fan_out", false},
                                     {"use_qalora", false}}) {
    if (const json value = at(key); !value.is_null() && value != neutral) {
      return Bad(path, fmt::format("{} is {}; only {} can be read", key, value.dump(), neutral.dump()));
    }
  }
  for (const char* key : {"modules_to_save", "layer_replication", "trainable_token_indices", "target_parameters"}) {
    if (const json value = at(key); !value.is_null() && !value.empty()) {
      return Bad(path, fmt::format("{} is set: such an adapter is more than a LoRA and cannot be read", key));
    }
  }
  try {
    config.given = true;
    config.alpha = at("lora_alpha").is_null() ? at("r").get<double>() : at("lora_alpha").get<double>();
    if (!at("alpha_pattern").is_null()) config.alphas = at("alpha_pattern").get<std::map<std::string, double>>();
    config.rslora = !at("use_rslora").is_null() && at("use_rslora").get<bool>();
  } catch (const json::exception&) {
    return Bad(path, "r, lora_alpha, alpha_pattern or use_rslora is not of the type that peft writes");
  }
  return config;
}

absl::StatusOr<json> ParseObject(const std::string& path, const std::string& text, const char* what) {
  json object = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return Bad(path, fmt::format("{} is no JSON object", what));
  return object;
}

// ---- reading

class Reader {
 public:
  explicit Reader(const nn::TuningSites& sites) : index_(sites) {}

  // One file's arrays; `conditioner`: of which network where their names do not say.
  absl::Status Add(const std::string& path, const std::map<std::string, io::ArrayView>& arrays,
                   std::optional<bool> conditioner, const Config& unet, const Config& text) {
    path_ = path;
    std::set<std::string> added;
    for (const auto& [name, view] : arrays) {
      LOUPE_ASSIGN_OR_RETURN(const std::string layer, AddArray(name, view, conditioner));
      if (!layer.empty()) added.insert(layer);
    }
    for (const std::string& name : added) LOUPE_RETURN_IF_ERROR(Complete(name, unet, text));
    return absl::OkStatus();
  }

  absl::StatusOr<LoraFile> Finish(const std::string& path) {
    if (file_.layers.empty()) return Bad(path, "holds no arrays of a LoRA");
    const auto dora = std::count_if(file_.layers.begin(), file_.layers.end(),
                                    [](const auto& entry) { return entry.second.magnitude.defined(); });
    if (dora != 0 && dora != static_cast<int64_t>(file_.layers.size())) {
      return Bad(path, "some of its layers have DoRA's magnitudes and some have not");
    }
    return std::move(file_);
  }

 private:
  // The layer's name in our files; empty for arrays that say nothing.
  absl::StatusOr<std::string> AddArray(const std::string& full_name, const io::ArrayView& view,
                                       std::optional<bool> conditioner) {
    std::string name = full_name;
    if (name.starts_with("text_encoder_2.") || name.starts_with("lora_te2_")) {
      return Bad(path_, fmt::format("'{}': made for a base with two text encoders (Stable Diffusion XL)", full_name));
    }
    Takes(name, kPeftPrefix);
    const bool kohya = name.starts_with("lora_unet_") || name.starts_with("lora_te");
    if (Takes(name, "unet.") || Takes(name, "lora_unet_")) {
      conditioner = false;
    } else if (Takes(name, "text_encoder.") || Takes(name, "lora_te_") || Takes(name, "lora_te1_")) {
      conditioner = true;
    }
    if (const std::string_view kind = OtherKindOf(name); !kind.empty()) {
      return Bad(path_, fmt::format("'{}' is of {}; only LoRAs can be read", full_name, kind));
    }
    const auto* const ending = FindLoraEnding(name);
    if (ending == nullptr) return Bad(path_, fmt::format("'{}' is no array of a LoRA", full_name));
    name.erase(name.size() - ending->first.size());
    if (!kohya) name = TodaysName(name, conditioner.value_or(false));
    const std::string layer = index_.Find(conditioner, name);
    if (layer.empty()) {
      return Bad(path_,
                 fmt::format("'{}': the base has no layer '{}': the LoRA was made for another base", full_name, name));
    }
    if (view.type != io::ElementType::kF32 && view.type != io::ElementType::kF16 &&
        view.type != io::ElementType::kBF16 && view.type != io::ElementType::kF64 &&
        ending->second != LoraRole::kAlpha) {
      return Bad(path_, fmt::format("'{}' is of type {}; expected floats", full_name, io::ElementTypeName(view.type)));
    }
    const torch::Tensor value = models::ToTensor(view).to(torch::kFloat32);
    if (const std::string found = runtime::DescribeNotFinite(value); !found.empty()) {
      return Bad(path_, fmt::format("'{}': {}: the LoRA is broken", full_name, found));
    }
    LoraLayer& into = file_.layers[layer];
    switch (ending->second) {
      case LoraRole::kA:
        into.a = value;
        break;
      case LoraRole::kB:
        into.b = value;
        break;
      case LoraRole::kMagnitude:
        into.magnitude = value;
        break;
      case LoraRole::kAlpha:
        if (value.numel() != 1) return Bad(path_, fmt::format("'{}' is no single number", full_name));
        alphas_[layer] = value.item<double>();
        break;
    }
    return layer;
  }

  // A layer's name as today's diffusers and transformers have it.
  static std::string TodaysName(std::string name, bool conditioner) {
    name = absl::StrReplaceAll(name, {{".processor.", "."}});
    if (name.ends_with(".to_out")) name += ".0";
    if (!conditioner && name.find("self_attn.") == std::string::npos) return name;
    for (const auto& [before, now] :
         {std::pair{".to_q", ".q_proj"}, {".to_k", ".k_proj"}, {".to_v", ".v_proj"}, {".to_out.0", ".out_proj"}}) {
      if (name.ends_with(before)) return name.substr(0, name.size() - std::string_view(before).size()) + now;
    }
    return name;
  }

  absl::Status Complete(const std::string& name, const Config& unet, const Config& text) {
    LoraLayer& layer = file_.layers[name];
    if (!layer.a.defined() || !layer.b.defined()) {
      return Bad(path_, fmt::format("the layer '{}' has only one of the LoRA's two matrices ({} is missing)", name,
                                    layer.a.defined() ? "up, or lora_B" : "down, or lora_A"));
    }
    std::vector<int64_t> a = index_.ShapeOf(name), b(a.size(), 1);
    const int64_t rank = layer.a.dim() > 0 ? layer.a.size(0) : 0;
    b[0] = a[0];
    b[1] = rank;
    a[0] = rank;
    if (!TakesShape(layer.a, a) || !TakesShape(layer.b, b)) {
      return Bad(path_,
                 fmt::format("the layer '{}' has matrices of shapes {} and {}, which do not fit the base's weight "
                             "[{}]: the LoRA was made for another base",
                             name, ShapeText(layer.a), ShapeText(layer.b), fmt::join(index_.ShapeOf(name), ", ")));
    }
    if (layer.magnitude.defined()) {
      if (layer.magnitude.numel() != b[0] ||
          (layer.magnitude.dim() > 1 && layer.magnitude.size(0) != b[0] && layer.magnitude.size(1) != b[0])) {
        return Bad(path_,
                   fmt::format("the layer '{}' has magnitudes of shape {}; expected one for each of its {} outputs",
                               name, ShapeText(layer.magnitude), b[0]));
      }
      layer.magnitude = layer.magnitude.flatten();
    }
    const bool conditioner = name.starts_with(kTextEncoderPrefix);
    const Config& config = conditioner ? text : unet;
    const auto own = alphas_.find(name);
    const auto r = static_cast<double>(rank);
    if (own != alphas_.end()) {
      layer.scale = own->second / r;
    } else if (config.given) {
      layer.scale = config.AlphaOf(name) / (config.rslora ? std::sqrt(r) : r);
      file_.rslora = file_.rslora || config.rslora;
    }
    return absl::OkStatus();
  }

  // A 1×1 convolution's matrix may be kept without its two last dimensions, and a linear layer's with them.
  static bool TakesShape(torch::Tensor& value, const std::vector<int64_t>& shape) {
    if (value.sizes().vec() == shape) return true;
    const auto without_ones = [](std::vector<int64_t> sizes) {
      while (sizes.size() > 2 && sizes.back() == 1) sizes.pop_back();
      return sizes;
    };
    if (without_ones(value.sizes().vec()) != without_ones(shape)) return false;
    value = value.view(shape);
    return true;
  }

  const LayerIndex index_;
  std::string path_;
  LoraFile file_;
  std::map<std::string, double> alphas_;
};

absl::StatusOr<Config> ReadPeftConfig(const std::string& folder) {
  const std::string path = folder + "/" + kConfigFile;
  LOUPE_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  LOUPE_ASSIGN_OR_RETURN(const json object, ParseObject(path, text, "the file"));
  LOUPE_ASSIGN_OR_RETURN(const Config config, ParseConfig(path, object, ""));
  if (!config.given) return Bad(path, "has no 'r'; expected the configuration of a LoRA as peft writes it");
  return config;
}

absl::Status ReadPeftFolder(const std::string& folder, bool conditioner, Reader& reader) {
  LOUPE_ASSIGN_OR_RETURN(const Config config, ReadPeftConfig(folder));
  const std::string path = folder + "/" + kPeftWeights;
  LOUPE_ASSIGN_OR_RETURN(const io::SafetensorsFile file, io::SafetensorsFile::Open(path));
  return reader.Add(path, file.arrays(), conditioner, config, config);
}

bool IsFile(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_regular_file(path, error);
}

absl::Status ReadFolder(const std::string& folder, Reader& reader) {
  bool any = false;
  for (const auto& [part, conditioner] : {std::pair{"", false}, {"/unet", false}, {"/text_encoder", true}}) {
    if (!IsFile(folder + part + "/" + kConfigFile)) continue;
    any = true;
    LOUPE_RETURN_IF_ERROR(ReadPeftFolder(folder + part, conditioner, reader));
  }
  if (any) return absl::OkStatus();
  return absl::NotFoundError(fmt::format(
      "{}: a folder without {}; expected a file, or a LoRA's folder as peft writes it", folder, kConfigFile));
}

absl::Status ReadOneFile(const std::string& path, Reader& reader) {
  if (!path.ends_with(".safetensors")) {
    LOUPE_ASSIGN_OR_RETURN(const io::WeightFiles file, io::WeightFiles::OpenFile(path));
    return reader.Add(path, file.arrays(), std::nullopt, {}, {});
  }
  LOUPE_ASSIGN_OR_RETURN(const io::SafetensorsFile file, io::SafetensorsFile::Open(path));
  Config unet, text;
  if (const auto found = file.metadata().find(kAdapterMetadataKey); found != file.metadata().end()) {
    LOUPE_ASSIGN_OR_RETURN(const json object, ParseObject(path, found->second, kAdapterMetadataKey));
    LOUPE_ASSIGN_OR_RETURN(unet, ParseConfig(path, object, "unet."));
    LOUPE_ASSIGN_OR_RETURN(text, ParseConfig(path, object, "text_encoder."));
  } else if (const std::string beside = std::filesystem::path(path).parent_path() / kConfigFile;
             std::filesystem::path(path).filename() == kPeftWeights && IsFile(beside)) {
    LOUPE_ASSIGN_OR_RETURN(unet, ReadPeftConfig(std::filesystem::path(path).parent_path()));
    text = unet;
  }
  return reader.Add(path, file.arrays(), std::nullopt, unet, text);
}

// ---- writing

json Number(double value) {
  const auto whole = static_cast<int64_t>(value);
  return static_cast<double>(whole) == value ? json(whole) : json(value);
}

// peft's LoraConfig of one network's layers; `strip` is taken from their names.
json PeftConfig(const LoraFile& lora, std::string_view prefix) {
  std::map<int64_t, int64_t> ranks;
  std::map<double, int64_t> alphas;
  bool dora = false;
  for (const auto& [name, layer] : lora.layers) {
    if (!name.starts_with(prefix)) continue;
    ++ranks[layer.rank()];
    ++alphas[lora.AlphaOf(layer)];
    dora = dora || layer.magnitude.defined();
  }
  const auto most = [](const auto& counts) {
    return std::max_element(counts.begin(), counts.end(),
                            [](const auto& a, const auto& b) { return a.second < b.second; })
        ->first;
  };
  const int64_t rank = most(ranks);
  const double alpha = most(alphas);
  json rank_pattern = json::object(), alpha_pattern = json::object(), targets = json::array();
  for (const auto& [name, layer] : lora.layers) {
    if (!name.starts_with(prefix)) continue;
    const std::string own = name.substr(prefix.size());
    targets.push_back(own);
    if (layer.rank() != rank) rank_pattern[own] = layer.rank();
    if (lora.AlphaOf(layer) != alpha) alpha_pattern[own] = Number(lora.AlphaOf(layer));
  }
  return {{"peft_type", "LORA"},
          {"r", rank},
          {"lora_alpha", Number(alpha)},
          {"rank_pattern", rank_pattern},
          {"alpha_pattern", alpha_pattern},
          {"target_modules", targets},
          {"use_rslora", lora.rslora},
          {"use_dora", dora},
          {"bias", "none"},
          {"lora_dropout", 0.0},
          {"fan_in_fan_out", false},
          {"init_lora_weights", true},
          {"inference_mode", true}};
}

absl::Status WritePeftPart(const std::string& folder, const LoraFile& lora, std::string_view prefix) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  std::map<std::string, torch::Tensor> arrays;
  for (const auto& [name, value] : DiffusersLoraArrays(lora)) {
    if (name.starts_with(prefix)) arrays[kPeftPrefix + name.substr(prefix.size())] = value;
  }
  LOUPE_RETURN_IF_ERROR(
      io::WriteSafetensors(folder + "/" + kPeftWeights, models::ToArrays(arrays).views, {{"format", "pt"}}));
  return WriteFileAtomically(folder + "/" + kConfigFile, PeftConfig(lora, prefix).dump(2) + "\n");
}

}  // namespace

double LoraFile::AlphaOf(const LoraLayer& layer) const {
  const auto rank = static_cast<double>(layer.rank());
  // The root is rounded: 4 came in, and 4 is to go out.
  constexpr double kDigits = 1e9;
  return std::round(layer.scale * (rslora ? std::sqrt(rank) : rank) * kDigits) / kDigits;
}

bool LoraFile::Tunes(std::string_view prefix) const {
  return std::any_of(layers.begin(), layers.end(), [&](const auto& entry) { return entry.first.starts_with(prefix); });
}

absl::StatusOr<LoraFile> ReadLora(const std::string& path, const nn::TuningSites& sites) {
  Reader reader(sites);
  std::error_code error;
  LOUPE_RETURN_IF_ERROR(std::filesystem::is_directory(path, error) ? ReadFolder(path, reader)
                                                                   : ReadOneFile(path, reader));
  return reader.Finish(path);
}

std::map<std::string, torch::Tensor> DiffusersLoraArrays(const LoraFile& lora) {
  std::map<std::string, torch::Tensor> arrays;
  for (const auto& [name, layer] : lora.layers) {
    arrays[name + ".lora_A.weight"] = layer.a;
    arrays[name + ".lora_B.weight"] = layer.b;
    if (!layer.magnitude.defined()) continue;
    const bool convolution = layer.a.dim() == 4;
    arrays[name + ".lora_magnitude_vector"] = convolution ? layer.magnitude.view({1, -1, 1, 1}) : layer.magnitude;
  }
  return arrays;
}

io::Metadata DiffusersLoraMetadata(const LoraFile& lora) {
  json all = json::object();
  // The layers of a text encoder are called as in its class of today, which has no "text_model." in front; names in a
  // configuration need only fit the end of a module's.
  for (const auto& [prefix, part] : {std::pair{kUNetPrefix, "unet."}, {kTextEncoderPrefix, "text_encoder."}}) {
    if (!lora.Tunes(prefix)) continue;
    const json config = PeftConfig(lora, prefix);
    for (const auto& [key, value] : config.items()) all[part + key] = value;
  }
  return {{"format", "pt"}, {kAdapterMetadataKey, all.dump()}};
}

absl::Status WriteDiffusersLora(const std::string& folder, const LoraFile& lora) {
  return io::WriteSafetensors(folder + "/pytorch_lora_weights.safetensors",
                              models::ToArrays(DiffusersLoraArrays(lora)).views, DiffusersLoraMetadata(lora));
}

absl::Status WritePeftLora(const std::string& folder, const LoraFile& lora) {
  if (lora.Tunes(kUNetPrefix)) LOUPE_RETURN_IF_ERROR(WritePeftPart(folder, lora, kUNetPrefix));
  if (!lora.Tunes(kTextEncoderPrefix)) return absl::OkStatus();
  return WritePeftPart(folder + "/text_encoder", lora, kTextEncoderPrefix);
}

absl::Status WriteKohyaLora(const std::string& folder, const LoraFile& lora) {
  std::map<std::string, torch::Tensor> arrays;
  std::set<std::string> ranks, alphas;
  for (const auto& [name, layer] : lora.layers) {
    const bool conditioner = name.starts_with(kTextEncoderPrefix);
    const std::string own = name.substr(conditioner ? std::string_view("text_encoder.").size() : kUNetPrefix.size());
    const std::string key = (conditioner ? "lora_te_" : "lora_unet_") + absl::StrReplaceAll(own, {{".", "_"}});
    arrays[key + ".lora_down.weight"] = layer.a;
    arrays[key + ".lora_up.weight"] = layer.b;
    // Their factor is alpha/r, always.
    const double alpha = layer.scale * static_cast<double>(layer.rank());
    arrays[key + ".alpha"] = torch::tensor(alpha, torch::kFloat32);
    ranks.insert(fmt::format("{}", layer.rank()));
    alphas.insert(fmt::format("{}", alpha));
    if (!layer.magnitude.defined()) continue;
    std::vector<int64_t> shape(static_cast<size_t>(layer.a.dim()), 1);
    shape[0] = -1;
    arrays[key + ".dora_scale"] = layer.magnitude.view(shape);
  }
  const auto only = [](const std::set<std::string>& values) {
    return values.size() == 1 ? *values.begin() : "Dynamic";
  };
  return io::WriteSafetensors(folder + "/lora.safetensors", models::ToArrays(arrays).views,
                              {{"format", "pt"},
                               {"ss_network_module", "networks.lora"},
                               {"ss_network_dim", only(ranks)},
                               {"ss_network_alpha", only(alphas)}});
}

}  // namespace loupe::worker::methods::files
