#include "worker/methods/tuned_file.h"

#include <algorithm>
#include <filesystem>
#include <utility>
#include <vector>

#include "common/atomic_file.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/io/torch_checkpoint.h"
#include "worker/methods/hypernetwork.h"
#include "worker/methods/lora.h"
#include "worker/methods/textual_inversion.h"
#include "worker/methods/weight_change.h"

namespace loupe::worker::methods {
namespace {

bool IsFolder(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_directory(path, error);
}

// One array of a word's vectors, or what other programs call such arrays. A LoRA has two at least.
template <typename Arrays>
bool LooksLikeEmbedding(const Arrays& arrays) {
  if (arrays.contains("emb_params") || arrays.contains("clip_l") || arrays.contains("clip_g")) return true;
  return arrays.size() == 1 && arrays.begin()->second.shape.size() <= 2 &&
         arrays.begin()->first.find(".lora") == std::string::npos;
}

absl::StatusOr<TunedFileKind> RecognisePickle(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(const io::TorchObject object, io::TorchObject::Open(path));
  const io::PickleValue& root = object.root();
  if (root.kind != io::PickleValue::Kind::kDictionary) {
    return absl::InvalidArgumentError(fmt::format("{}: holds no dictionary: no LoRA, embedding or hypernetwork", path));
  }
  if (io::TorchObject::Find(root, "string_to_param") != nullptr) return TunedFileKind::kEmbedding;
  std::map<std::string, io::ArrayView> arrays;
  for (size_t i = 0; i < root.items->size(); i += 2) {
    const io::PickleValue &key = (*root.items)[i], &value = (*root.items)[i + 1];
    if (key.kind == io::PickleValue::Kind::kInteger) return TunedFileKind::kHypernetwork;
    if (key.kind != io::PickleValue::Kind::kText || value.kind != io::PickleValue::Kind::kTensor) continue;
    LOUPE_ASSIGN_OR_RETURN(arrays[std::string(key.text)], object.Array(value));
  }
  return LooksLikeEmbedding(arrays) ? TunedFileKind::kEmbedding : TunedFileKind::kLora;
}

// A trial's values in the forms that its method has beside our own.
void AddForms(TunedFile& file) {
  const settings::Settings& settings = file.adapter->settings;
  const auto& arrays = file.adapter->arrays;
  if (file.traits->name == "lora") file.lora = LoraFileOf(arrays, settings);
  if (file.traits->name == "loha" || file.traits->name == "lokr") {
    file.lycoris = files::LycorisFileOf(file.traits->name, arrays, AlphaOverRank(settings));
  }
  if (file.traits->name == "textual-inversion" && arrays.size() == 1) {
    file.embedding = files::EmbeddingFile{.token = arrays.begin()->first,
                                          .vectors = arrays.begin()->second,
                                          .form = "diffusers",
                                          .step = file.adapter->steps,
                                          .checkpoint = ""};
  }
  if (file.traits->name == "hypernetwork") {
    file.hypernetwork = files::HypernetworkFileOf(arrays, HypernetworkShapeOf(settings));
    file.hypernetwork->step = file.adapter->steps;
    file.hypernetwork->name = std::filesystem::path(file.path).stem();
  }
}

std::string WordFor(const files::EmbeddingFile& file, const settings::Settings& settings) {
  if (settings.Has("method.token")) return settings.Text("method.token");
  const std::string prompt = settings.Has("task.instance_prompt") ? settings.Text("task.instance_prompt") : "";
  const std::string own = WordOfPrompts(settings);
  return own.empty() || prompt.find(file.token) != std::string::npos ? file.token : own;
}

// The files' methods, one a slot.
class FilesMethod : public Method {
 public:
  FilesMethod(const nn::SlotRange& range, std::vector<std::unique_ptr<Method>> methods)
      : range_(range), methods_(std::move(methods)) {
    for (const auto& method : methods_) {
      const auto& own = method->parameters();
      parameters_.insert(parameters_.end(), own.begin(), own.end());
    }
  }
  int64_t slots() const override { return range_.total; }
  const std::vector<NamedParameter>& parameters() const override { return parameters_; }
  void SetEnabled(bool enabled) override {
    for (const auto& method : methods_) method->SetEnabled(enabled);
  }
  std::map<std::string, torch::Tensor> Export(int64_t slot) const override { return Of(slot).Export(slot); }
  void Import(int64_t slot, const std::map<std::string, torch::Tensor>& arrays) override {
    Of(slot).Import(slot, arrays);
  }
  absl::Status Merge(int64_t slot, BaseWeights& weights) const override { return Of(slot).Merge(slot, weights); }

 private:
  Method& Of(int64_t slot) const { return *methods_.at(static_cast<size_t>(slot - range_.first)); }

  const nn::SlotRange range_;
  const std::vector<std::unique_ptr<Method>> methods_;
  std::vector<NamedParameter> parameters_;
};

}  // namespace

absl::StatusOr<TunedFileKind> RecogniseTunedFile(const std::string& path) {
  if (IsFolder(path)) return TunedFileKind::kLora;
  if (!path.ends_with(".safetensors")) {
    for (const char* picture : {".png", ".webp", ".jxl", ".avif"}) {
      if (!path.ends_with(picture)) continue;
      return absl::InvalidArgumentError(
          fmt::format("{}: embeddings within pictures are not read; expected the .pt or .safetensors file", path));
    }
    return RecognisePickle(path);
  }
  if (files::IsAdapterFile(path)) return TunedFileKind::kAdapter;
  LOUPE_ASSIGN_OR_RETURN(const io::SafetensorsFile file, io::SafetensorsFile::Open(path));
  for (const auto& [name, array] : file.arrays()) {
    if (files::IsLycorisName(name)) return TunedFileKind::kLycoris;
  }
  return LooksLikeEmbedding(file.arrays()) ? TunedFileKind::kEmbedding : TunedFileKind::kLora;
}

absl::StatusOr<TunedFile> ReadTunedFile(const std::string& path, const nn::TuningSites& sites) {
  LOUPE_ASSIGN_OR_RETURN(const TunedFileKind kind, RecogniseTunedFile(path));
  TunedFile file{.path = path};
  switch (kind) {
    case TunedFileKind::kAdapter: {
      LOUPE_ASSIGN_OR_RETURN(file.adapter, files::ReadAdapterFile(path));
      file.traits = &MethodOf(file.adapter->settings);
      AddForms(file);
      break;
    }
    case TunedFileKind::kLora: {
      LOUPE_ASSIGN_OR_RETURN(file.lora, files::ReadLora(path, sites));
      file.traits = FindMethod("lora");
      break;
    }
    case TunedFileKind::kLycoris: {
      LOUPE_ASSIGN_OR_RETURN(file.lycoris, files::ReadLycoris(path, sites));
      file.traits = FindMethod(file.lycoris->method);
      break;
    }
    case TunedFileKind::kEmbedding: {
      LOUPE_ASSIGN_OR_RETURN(file.embedding, files::ReadEmbedding(path));
      file.traits = FindMethod("textual-inversion");
      break;
    }
    case TunedFileKind::kHypernetwork: {
      LOUPE_ASSIGN_OR_RETURN(file.hypernetwork, files::ReadHypernetwork(path));
      file.traits = FindMethod("hypernetwork");
      break;
    }
  }
  return file;
}

absl::Status WriteTunedFile(const TunedFile& file, ExportLayout layout, const std::string& folder) {
  const auto in = [&](const std::string& name) { return folder + "/" + name; };
  if (file.lora.has_value()) {
    if (layout == ExportLayout::kDiffusers) return files::WriteDiffusersLora(folder, *file.lora);
    if (layout == ExportLayout::kPeft) return files::WritePeftLora(folder, *file.lora);
    if (layout == ExportLayout::kKohya) return files::WriteKohyaLora(folder, *file.lora);
  }
  if (file.lycoris.has_value() && layout == ExportLayout::kKohya) return files::WriteLycoris(folder, *file.lycoris);
  if (file.embedding.has_value()) {
    const std::string name = files::FileNameOf(file.embedding->token);
    if (layout == ExportLayout::kDiffusers) {
      return files::WriteDiffusersEmbedding(in("learned_embeds.safetensors"), *file.embedding);
    }
    if (layout == ExportLayout::kKohya) return files::WriteKohyaEmbedding(in(name + ".safetensors"), *file.embedding);
    if (layout == ExportLayout::kA1111) return files::WriteA1111Embedding(in(name + ".pt"), *file.embedding);
  }
  if (file.hypernetwork.has_value() && layout == ExportLayout::kA1111) {
    return files::WriteHypernetwork(in(files::FileNameOf(file.hypernetwork->name) + ".pt"), *file.hypernetwork);
  }
  return absl::InvalidArgumentError(fmt::format("{}: a file of {} has no such layout", file.path, file.traits->name));
}

std::unique_ptr<Method> MakeMethodOf(const TunedFile& file, const std::string& word, const nn::TuningSites& sites,
                                     const nn::SlotRange& range, torch::Device device) {
  // A trial's embedding too: the word may be another one here.
  if (file.embedding.has_value()) {
    return MakeInversionOf(*file.embedding, word.empty() ? file.embedding->token : word, sites, range, device);
  }
  if (file.adapter.has_value()) {
    auto method = file.traits->make(sites, {{file.adapter->settings, 0}}, range, device);
    method->Import(range.first, file.adapter->arrays);
    return method;
  }
  if (file.lora.has_value()) return MakeLoraOf(*file.lora, sites, range, device);
  if (file.lycoris.has_value()) return MakeLycorisOf(*file.lycoris, sites, range, device);
  return MakeHypernetworkOf(*file.hypernetwork, sites, range, device);
}

std::unique_ptr<Method> MakeOfFile(const nn::TuningSites& sites, const std::vector<SlotOptions>& slots,
                                   const nn::SlotRange& range, torch::Device device) {
  std::vector<std::unique_ptr<Method>> methods;
  for (size_t k = 0; k < slots.size(); ++k) {
    const settings::Settings& settings = slots[k].settings;
    const auto file = ReadTunedFile(settings.Text("method.path"), sites);
    TORCH_CHECK(file.ok(), "method.path: ", std::string(file.status().message()));
    TORCH_CHECK(file->traits->name != "file", "method.path: ", file->path, ": of a trial that trained nothing itself");
    const std::string word = file->embedding.has_value() ? WordFor(*file->embedding, settings) : "";
    const nn::SlotRange own{range.first + static_cast<int64_t>(k), 1, range.total};
    methods.push_back(MakeMethodOf(*file, word, sites, own, device));
  }
  return std::make_unique<FilesMethod>(range, std::move(methods));
}

absl::StatusOr<std::string> DigestOfTunedFile(const std::string& path) {
  if (!IsFolder(path)) {
    LOUPE_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
    return Sha256Hex(bytes);
  }
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path, error)) {
    if (entry.is_regular_file(error)) names.push_back(std::filesystem::relative(entry.path(), path));
  }
  std::sort(names.begin(), names.end());
  Sha256 digest;
  for (const std::string& name : names) {
    LOUPE_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path + "/" + name));
    digest.Update(fmt::format("{} {}\n", name, bytes.size()));
    digest.Update(bytes);
  }
  return digest.FinishHex();
}

}  // namespace loupe::worker::methods
