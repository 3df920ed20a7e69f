#include "worker/executor/inspect_request.h"

#include <torch/types.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <string_view>

#include "common/atomic_file.h"
#include "common/status_macros.h"
#include "common/text.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "nlohmann/json.hpp"
#include "worker/executor/attached_adapter.h"
#include "worker/executor/failure_status.h"
#include "worker/io/safetensors.h"
#include "worker/io/weight_files.h"
#include "worker/methods/files/lora_names.h"
#include "worker/methods/tuned_file.h"
#include "worker/models/weights.h"
#include "worker/runtime/finite.h"

namespace loupe::worker::executor {
namespace {

namespace fs = std::filesystem;

int64_t SizeOnDisk(const std::string& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) return static_cast<int64_t>(fs::file_size(path, error));
  int64_t bytes = 0;
  for (const auto& entry : fs::recursive_directory_iterator(path, error)) {
    if (entry.is_regular_file(error)) bytes += static_cast<int64_t>(entry.file_size(error));
  }
  return bytes;
}

// Published bases by the width of their text.
std::string BaseOfTextWidth(int64_t width) {
  const std::string base = fmt::format("one whose text has {} numbers a token", width);
  if (width == 768) return base + " (Stable Diffusion v1)";
  if (width == 1024) return base + " (Stable Diffusion v2)";
  if (width == 2048) return base + " (Stable Diffusion XL)";
  return base;
}

bool AllZero(const torch::Tensor& value) { return value.numel() > 0 && value.abs().max().item<double>() == 0; }

// ---- LoRA, without a base: from its arrays' names and shapes alone

struct LoraSketch {
  int64_t rank = 0, in = 0, out = 0;
  bool a = false, b = false, untrained = false, dora = false;
  double alpha = 0;  // 0: not said
};

// The end of a layer's name that says which of a block's layers it is.
std::string TargetOf(std::string_view layer) {
  constexpr std::string_view kTargets[] = {
      "to_q",   "to_k",     "to_v",          "to_out.0", "to_out_0",      "to_out", "q_proj", "k_proj",
      "v_proj", "out_proj", "time_emb_proj", "proj_in",  "proj_out",      "proj",   "fc1",    "fc2",
      "conv1",  "conv2",    "conv_in",       "conv_out", "conv_shortcut", "net.2",  "net_2",  "conv"};
  for (const std::string_view target : kTargets) {
    if (layer.ends_with(target)) return std::string(target);
  }
  return "others";
}

std::string FormOf(const std::set<std::string>& names, bool folder) {
  const auto any = [&](std::string_view start, std::string_view part) {
    return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
      return name.starts_with(start) && name.find(part) != std::string::npos;
    });
  };
  if (any("lora_unet_", "") || any("lora_te", "")) return "kohya";
  if (folder || any("base_model.model.", "")) return "peft";
  return any("", ".lora_A.") ? "diffusers" : "diffusers, of a former version";
}

absl::StatusOr<io::WeightFiles> OpenLora(const std::string& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) return io::WeightFiles::OpenFile(path);
  for (const char* part : {"", "/unet", "/text_encoder"}) {
    const std::string file = fmt::format("{}{}/adapter_model.safetensors", path, part);
    if (fs::exists(file, error)) return io::WeightFiles::OpenFile(file);
  }
  return absl::NotFoundError(fmt::format(
      "{}: a folder without adapter_model.safetensors; expected a file, or a LoRA's folder as peft writes it", path));
}

absl::Status DescribeLora(const std::string& path, FileDescription& description) {
  LOUPE_ASSIGN_OR_RETURN(const io::WeightFiles file, OpenLora(path));
  std::map<std::string, LoraSketch> layers;
  std::set<std::string> names;
  for (const auto& [name, view] : file.arrays()) {
    if (const std::string_view kind = methods::files::OtherKindOf(name); !kind.empty()) {
      return absl::InvalidArgumentError(fmt::format("{}: '{}' is of {}; only LoRAs can be read", path, name, kind));
    }
    const auto* const ending = methods::files::FindLoraEnding(name);
    if (ending == nullptr) {
      return absl::InvalidArgumentError(
          fmt::format("{}: '{}' is no array of a LoRA, an embedding or a hypernetwork", path, name));
    }
    const torch::Tensor value = models::ToTensor(view).to(torch::kFloat32);
    if (const std::string found = runtime::DescribeNotFinite(value); !found.empty()) {
      return absl::InvalidArgumentError(fmt::format("{}: '{}': {}: the LoRA is broken", path, name, found));
    }
    names.insert(name);
    LoraSketch& layer = layers[name.substr(0, name.size() - ending->first.size())];
    if (ending->second != methods::files::LoraRole::kAlpha) description.parameters += value.numel();
    switch (ending->second) {
      case methods::files::LoraRole::kA:
        layer.a = value.dim() >= 2;
        layer.rank = value.dim() >= 2 ? value.size(0) : 0;
        layer.in = value.dim() >= 2 ? value.size(1) : 0;
        break;
      case methods::files::LoraRole::kB:
        layer.b = value.dim() >= 2;
        layer.out = value.dim() >= 2 ? value.size(0) : 0;
        layer.untrained = AllZero(value);
        break;
      case methods::files::LoraRole::kMagnitude:
        layer.dora = true;
        break;
      case methods::files::LoraRole::kAlpha:
        layer.alpha = value.numel() == 1 ? value.item<double>() : 0;
        break;
    }
  }
  if (layers.empty()) return absl::InvalidArgumentError(fmt::format("{}: holds no arrays", path));
  std::error_code error;
  description.kind = "LoRA";
  description.form = FormOf(names, fs::is_directory(path, error));
  std::set<int64_t> ranks, text_widths;
  std::set<double> alphas;
  std::map<std::string, int64_t> targets;
  int64_t in_text = 0, without_alpha = 0, untrained = 0, halves = 0;
  bool dora = false;
  for (const auto& [name, layer] : layers) {
    ranks.insert(layer.rank);
    if (layer.alpha != 0) alphas.insert(layer.alpha);
    without_alpha += layer.alpha == 0 ? 1 : 0;
    untrained += layer.untrained ? 1 : 0;
    halves += layer.a != layer.b ? 1 : 0;
    dora = dora || layer.dora;
    const std::string target = TargetOf(name);
    ++targets[target];
    const bool text = name.starts_with("lora_te") || name.find("text_encoder") != std::string::npos ||
                      name.find("self_attn") != std::string::npos;
    in_text += text ? 1 : 0;
    if (text && (target == "q_proj" || target == "k_proj")) text_widths.insert(layer.in);
    if (!text && name.find("attn2") != std::string::npos && (target == "to_k" || target == "to_v")) {
      text_widths.insert(layer.in);
    }
  }
  std::vector<std::string> counted;
  for (const auto& [target, count] : targets) counted.push_back(fmt::format("{} {}", target, count));
  const auto layer_count = static_cast<int64_t>(layers.size());
  description.facts = {
      {"rank", fmt::format("{}", fmt::join(ranks, ", "))},
      {"alpha", alphas.empty() ? "not said by the arrays: the rank, or what the metadata says"
                               : fmt::format("{}", fmt::join(alphas, ", "))},
      {"layers", fmt::format("{} of the denoiser, {} of the text encoder", layer_count - in_text, in_text)},
      {"targets", fmt::format("{}", fmt::join(counted, ", "))},
      {"dora", dora ? "yes" : "no"}};
  description.base =
      text_widths.size() == 1 ? BaseOfTextWidth(*text_widths.begin()) : "cannot be told: no layer of it reads text";
  auto& odd = description.odd;
  if (halves > 0) odd.push_back(fmt::format("{} of its layers have only one of the two matrices.", halves));
  if (untrained > 0) {
    odd.push_back(fmt::format("{} of its {} layers change nothing: their second matrix is 0.", untrained, layer_count));
  }
  if (without_alpha > 0 && without_alpha < layer_count) {
    odd.push_back(
        fmt::format("{} of its {} layers have no alpha; the rank is taken for it.", without_alpha, layer_count));
  }
  if (description.form == "kohya" && without_alpha == layer_count) {
    odd.emplace_back("kohya's scripts write an alpha for every layer; here is none, and the rank is taken for it.");
  }
  if (text_widths.size() > 1) {
    odd.push_back(fmt::format("its layers read texts of different widths: {}.", fmt::join(text_widths, ", ")));
  }
  return absl::OkStatus();
}

// ---- LoHa and LoKr, the same

absl::Status DescribeLycoris(const std::string& path, FileDescription& description) {
  LOUPE_ASSIGN_OR_RETURN(const io::SafetensorsFile file, io::SafetensorsFile::Open(path));
  std::set<std::string> layers, in_text, untrained;
  std::set<int64_t> ranks, text_widths;
  std::set<double> alphas;
  description.kind = "LoKr";
  description.form = "kohya";
  for (const auto& [name, view] : file.arrays()) {
    const std::string layer = name.substr(0, name.find('.')),
                      array = name.substr(std::min(name.size(), layer.size() + 1));
    const torch::Tensor value = models::ToTensor(view).to(torch::kFloat32);
    if (const std::string found = runtime::DescribeNotFinite(value); !found.empty()) {
      return absl::InvalidArgumentError(fmt::format("{}: '{}': {}: the file is broken", path, name, found));
    }
    layers.insert(layer);
    if (layer.starts_with("lora_te")) in_text.insert(layer);
    if (array == "alpha") {
      if (value.numel() == 1) alphas.insert(value.item<double>());
      continue;
    }
    description.parameters += value.numel();
    if (array.starts_with("hada_")) description.kind = "LoHa";
    const bool ranked = (array == "hada_w1_b" || array == "lokr_w2_b") && value.dim() == 2;
    if (ranked) ranks.insert(value.size(0));
    const bool reads_text = layer.ends_with("attn2_to_k") || layer.ends_with("attn2_to_v");
    if (ranked && array == "hada_w1_b" && reads_text) text_widths.insert(value.size(1));
    if ((array == "hada_w2_a" || array == "lokr_w2_b" || array == "lokr_w2") && AllZero(value)) untrained.insert(layer);
  }
  description.facts = {
      {"rank", ranks.empty() ? "none: its factors are whole" : fmt::format("{}", fmt::join(ranks, ", "))},
      {"alpha", alphas.empty() ? "not said: the rank" : fmt::format("{}", fmt::join(alphas, ", "))},
      {"layers",
       fmt::format("{} of the denoiser, {} of the text encoder", layers.size() - in_text.size(), in_text.size())}};
  description.base =
      text_widths.size() == 1 ? BaseOfTextWidth(*text_widths.begin()) : "cannot be told by its arrays' shapes";
  if (!untrained.empty()) {
    description.odd.push_back(
        fmt::format("{} of its {} layers change nothing: a factor is 0.", untrained.size(), layers.size()));
  }
  return absl::OkStatus();
}

// ---- the other kinds

void DescribeEmbedding(const methods::files::EmbeddingFile& file, FileDescription& description) {
  description.parameters = file.vectors.numel();
  const auto norms = file.vectors.norm(2, {1});
  description.facts = {{"word", file.token},
                       {"vectors", fmt::format("{} of {} numbers", file.vectors.size(0), file.vectors.size(1))},
                       {"length of the vectors",
                        fmt::format("{:.3g} to {:.3g}", norms.min().item<double>(), norms.max().item<double>())}};
  if (file.step > 0) description.facts.emplace_back("step", fmt::format("{}", file.step));
  if (!file.checkpoint.empty()) description.facts.emplace_back("trained on", file.checkpoint);
  description.base = BaseOfTextWidth(file.vectors.size(1));
  if (AllZero(file.vectors)) description.odd.emplace_back("its vectors are all 0.");
  if (file.form == "kohya") {
    description.odd.emplace_back("it does not say its word; the name of the file is taken for it.");
  }
}

void DescribeHypernetwork(const methods::files::HypernetworkFile& file, FileDescription& description) {
  std::vector<int64_t> widths;
  int64_t untrained = 0;
  for (const auto& [width, networks] : file.widths) {
    widths.push_back(width);
    for (const auto& values : networks) {
      for (const auto& [name, value] : values) {
        description.parameters += value.numel();
        untrained += name.ends_with(".weight") && AllZero(value) ? 1 : 0;
      }
    }
  }
  const auto& shape = file.shape;
  const bool drops = std::any_of(shape.dropout.begin(), shape.dropout.end(), [](double p) { return p > 0; });
  description.facts = {{"widths", fmt::format("{}", fmt::join(widths, ", "))},
                       {"layer structure", fmt::format("{}", fmt::join(shape.structure, ", "))},
                       {"function", shape.activation + (shape.activate_output ? ", after the last layer too" : "")},
                       {"layer norm", shape.layer_norm ? "yes" : "no"},
                       {"dropout", drops ? fmt::format("{}", fmt::join(shape.dropout, ", ")) : "no"},
                       {"weights drawn by", file.weight_init}};
  if (!file.name.empty()) description.facts.emplace_back("name", file.name);
  if (file.step > 0) description.facts.emplace_back("step", fmt::format("{}", file.step));
  if (!file.checkpoint.empty()) description.facts.emplace_back("trained on", file.checkpoint);
  const bool v1 = file.widths.contains(768), v2 = file.widths.contains(1024);
  description.base = v1   ? BaseOfTextWidth(768)
                     : v2 ? BaseOfTextWidth(1024)
                          : fmt::format("one with contexts of the widths {}", fmt::join(widths, ", "));
  if (untrained > 0) description.odd.push_back(fmt::format("{} of its layers are 0.", untrained));
}

void DescribeTrial(const methods::files::AdapterFile& file, FileDescription& description) {
  description.facts = {{"method", file.settings.Text("method.kind")}};
  for (const auto& [key, value] : file.settings.values()) {
    if (key.starts_with("method.") && key != "method.kind") description.facts.emplace_back(key.substr(7), value);
  }
  for (const auto& [name, value] : file.arrays) {
    description.parameters += value.numel();
    const bool second = name.ends_with(".lora_B.weight") || name.ends_with(".up.weight");
    if (second && AllZero(value)) description.odd.push_back(fmt::format("'{}' is 0: it changes nothing.", name));
  }
  constexpr size_t kMostNamed = 3;
  if (description.odd.size() > kMostNamed) {
    description.odd = {fmt::format("{} of its layers are 0: they change nothing.", description.odd.size())};
  }
  description.facts.emplace_back("arrays", fmt::format("{}", file.arrays.size()));
  description.facts.emplace_back("steps", fmt::format("{}", file.steps));
  if (!file.trial.empty()) description.facts.emplace_back("trial", file.trial);
  description.facts.emplace_back("base", file.settings.Text("base"));
  description.base = fmt::format("the one whose files have the SHA-256 {}", file.base_sha256);
}

absl::Status DescribeKind(const std::string& path, methods::TunedFileKind kind, FileDescription& description) {
  switch (kind) {
    case methods::TunedFileKind::kLora:
      return DescribeLora(path, description);
    case methods::TunedFileKind::kLycoris:
      return DescribeLycoris(path, description);
    case methods::TunedFileKind::kEmbedding: {
      LOUPE_ASSIGN_OR_RETURN(const methods::files::EmbeddingFile file, methods::files::ReadEmbedding(path));
      description.kind = "embedding";
      description.form = file.form;
      DescribeEmbedding(file, description);
      return absl::OkStatus();
    }
    case methods::TunedFileKind::kHypernetwork: {
      LOUPE_ASSIGN_OR_RETURN(const methods::files::HypernetworkFile file, methods::files::ReadHypernetwork(path));
      description.kind = "hypernetwork";
      description.form = "a1111";
      DescribeHypernetwork(file, description);
      return absl::OkStatus();
    }
    case methods::TunedFileKind::kAdapter: {
      LOUPE_ASSIGN_OR_RETURN(const methods::files::AdapterFile file, methods::files::ReadAdapterFile(path));
      description.kind = "trial of loupe-worker";
      description.form = "loupe";
      DescribeTrial(file, description);
      return absl::OkStatus();
    }
  }
  return absl::InternalError("a kind of file without a description");
}

// "yes", or the sentence with which it is refused.
std::string FitsBase(const std::string& path, const std::string& folder) {
  const absl::Status status = StatusOfThrown([&] {
    OpenedBase opened(folder, "", "cpu", 1);
    AttachAdapterFile(path, opened.base, torch::kCPU);
  });
  return status.ok() ? "yes" : std::string(status.message());
}

}  // namespace

absl::StatusOr<FileDescription> InspectFile(const std::string& path, const std::string& base) {
  FileDescription description{.path = path};
  LOUPE_ASSIGN_OR_RETURN(const methods::TunedFileKind kind, methods::RecogniseTunedFile(path));
  absl::Status status;
  LOUPE_RETURN_IF_ERROR(StatusOfThrown([&] { status = DescribeKind(path, kind, description); }));
  LOUPE_RETURN_IF_ERROR(status);
  description.bytes = SizeOnDisk(path);
  if (path.ends_with(".safetensors")) {
    LOUPE_ASSIGN_OR_RETURN(const io::SafetensorsFile file, io::SafetensorsFile::Open(path));
    description.metadata = {file.metadata().begin(), file.metadata().end()};
  }
  if (!base.empty()) description.fits = FitsBase(path, base);
  return description;
}

std::string DescriptionText(const FileDescription& description) {
  std::string text;
  const auto line = [&](const std::string& name, const std::string& value) {
    text += fmt::format("{:<22} {}\n", Printable(name), Printable(value));
  };
  line("file", description.path);
  line("kind", fmt::format("{} ({})", description.kind, description.form));
  line("bytes", fmt::format("{}", description.bytes));
  line("parameters", fmt::format("{}", description.parameters));
  for (const auto& [name, value] : description.facts) line(name, value);
  line("fits a base", description.base);
  if (!description.fits.empty()) line("fits this base", description.fits);
  for (const auto& [name, value] : description.metadata) {
    constexpr size_t kShown = 100;
    line("metadata " + name,
         value.size() <= kShown ? value : fmt::format("{}… ({} bytes)", value.substr(0, kShown), value.size()));
  }
  for (const std::string& sentence : description.odd) line("odd", sentence);
  return text;
}

std::string DescriptionJson(const FileDescription& description) {
  // Bytes that are no UTF-8 as the replacement character: what others wrote must not break the reader.
  using nlohmann::ordered_json;
  ordered_json facts = ordered_json::object();
  for (const auto& [name, value] : description.facts) facts[name] = value;
  const ordered_json json = {{"file", description.path},
                             {"kind", description.kind},
                             {"form", description.form},
                             {"bytes", description.bytes},
                             {"parameters", description.parameters},
                             {"facts", facts},
                             {"base", description.base},
                             {"fits", description.fits.empty() ? ordered_json() : ordered_json(description.fits)},
                             {"metadata", description.metadata},
                             {"odd", description.odd}};
  return json.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace loupe::worker::executor
