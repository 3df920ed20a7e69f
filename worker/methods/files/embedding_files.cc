#include "worker/methods/files/embedding_files.h"

#include <cctype>
#include <filesystem>
#include <map>

#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/io/safetensors.h"
#include "worker/io/torch_archive.h"
#include "worker/io/torch_checkpoint.h"
#include "worker/models/weights.h"
#include "worker/runtime/finite.h"

namespace loupe::worker::methods::files {
namespace {

using PickleKind = io::PickleValue::Kind;

constexpr char kEmbParams[] = "emb_params";
// What A1111 writes for the word, whatever the word is.
constexpr char kStar[] = "*";

absl::Status NoEmbedding(const std::string& path, const std::string& sentence) {
  return absl::InvalidArgumentError(fmt::format("{}: {}", path, sentence));
}

std::string StemOf(const std::string& path) { return std::filesystem::path(path).stem(); }

absl::StatusOr<torch::Tensor> VectorsOf(const std::string& path, const io::ArrayView& view) {
  if (view.type != io::ElementType::kF32 && view.type != io::ElementType::kF16 && view.type != io::ElementType::kBF16 &&
      view.type != io::ElementType::kF64) {
    return NoEmbedding(path,
                       fmt::format("its vectors are of type {}; expected floats", io::ElementTypeName(view.type)));
  }
  torch::Tensor vectors = models::ToTensor(view).to(torch::kFloat32);
  if (vectors.dim() == 1) vectors = vectors.unsqueeze(0);
  if (vectors.dim() != 2 || vectors.numel() == 0) {
    return NoEmbedding(path, fmt::format("its array has {} dimensions; expected [vectors, width]", vectors.dim()));
  }
  if (const std::string found = runtime::DescribeNotFinite(vectors); !found.empty()) {
    return NoEmbedding(path, fmt::format("{}: the embedding is broken", found));
  }
  return vectors;
}

// One array under its word, or kohya's name for it.
absl::StatusOr<EmbeddingFile> FromArrays(const std::string& path, const std::map<std::string, io::ArrayView>& arrays) {
  if (arrays.contains("clip_g") || arrays.contains("clip_l")) {
    return NoEmbedding(path,
                       "has vectors for two text encoders (Stable Diffusion XL's clip_l and clip_g); only those of "
                       "one can be read");
  }
  if (arrays.size() != 1) {
    return NoEmbedding(path, fmt::format("holds {} arrays; expected one, under the word that it stands for or '{}'",
                                         arrays.size(), kEmbParams));
  }
  const auto& [name, view] = *arrays.begin();
  EmbeddingFile file;
  const bool kohya = name == kEmbParams;
  file.token = kohya ? StemOf(path) : name;
  file.form = kohya ? "kohya" : "diffusers";
  LOUPE_ASSIGN_OR_RETURN(file.vectors, VectorsOf(path, view));
  return file;
}

absl::StatusOr<EmbeddingFile> FromWebUi(const io::TorchObject& object, const io::PickleValue& parameters) {
  const std::string& path = object.path();
  if (parameters.kind != PickleKind::kDictionary || parameters.items->size() != 2) {
    return NoEmbedding(path, "string_to_param is no dictionary with one entry");
  }
  LOUPE_ASSIGN_OR_RETURN(const io::ArrayView view, object.Array((*parameters.items)[1]));
  EmbeddingFile file;
  file.form = "a1111";
  LOUPE_ASSIGN_OR_RETURN(file.vectors, VectorsOf(path, view));
  const auto text = [&](const char* key) -> std::string {
    const io::PickleValue* const found = io::TorchObject::Find(object.root(), key);
    return found != nullptr && found->kind == PickleKind::kText ? std::string(found->text) : "";
  };
  file.token = text("name");
  if (file.token.empty()) file.token = StemOf(path);
  file.checkpoint = text("sd_checkpoint_name");
  const io::PickleValue* const step = io::TorchObject::Find(object.root(), "step");
  if (step != nullptr && step->kind == PickleKind::kInteger) file.step = step->integer;
  return file;
}

absl::Status WriteOneArray(const std::string& path, const std::string& name, const EmbeddingFile& embedding) {
  return io::WriteSafetensors(path, models::ToArrays({{name, embedding.vectors}}).views, {{"format", "pt"}});
}

}  // namespace

absl::StatusOr<EmbeddingFile> ReadEmbedding(const std::string& path) {
  if (path.ends_with(".safetensors")) {
    LOUPE_ASSIGN_OR_RETURN(const io::SafetensorsFile file, io::SafetensorsFile::Open(path));
    return FromArrays(path, file.arrays());
  }
  LOUPE_ASSIGN_OR_RETURN(const io::TorchObject object, io::TorchObject::Open(path));
  if (const io::PickleValue* const found = io::TorchObject::Find(object.root(), "string_to_param"); found != nullptr) {
    return FromWebUi(object, *found);
  }
  std::map<std::string, io::ArrayView> arrays;
  if (object.root().kind == PickleKind::kDictionary) {
    const std::vector<io::PickleValue>& items = *object.root().items;
    for (size_t i = 0; i < items.size(); i += 2) {
      if (items[i].kind != PickleKind::kText || items[i + 1].kind != PickleKind::kTensor) continue;
      LOUPE_ASSIGN_OR_RETURN(arrays[std::string(items[i].text)], object.Array(items[i + 1]));
    }
  }
  return FromArrays(path, arrays);
}

absl::Status WriteDiffusersEmbedding(const std::string& path, const EmbeddingFile& embedding) {
  return WriteOneArray(path, embedding.token, embedding);
}

absl::Status WriteKohyaEmbedding(const std::string& path, const EmbeddingFile& embedding) {
  return WriteOneArray(path, kEmbParams, embedding);
}

absl::Status WriteA1111Embedding(const std::string& path, const EmbeddingFile& embedding) {
  using Dictionary = io::TorchValue::Dictionary;
  const auto text = [](const char* value) { return io::TorchValue{std::string(value)}; };
  // A number that their writer has for every word; no reader looks at it.
  constexpr int64_t kStarToken = 265;
  const models::TensorArrays arrays = models::ToArrays({{kStar, embedding.vectors}});
  const io::TorchValue checkpoint =
      embedding.checkpoint.empty() ? io::TorchValue{} : io::TorchValue{embedding.checkpoint};
  const Dictionary root{{{text("string_to_token"), {Dictionary{{{text(kStar), {kStarToken}}}}}},
                         {text("string_to_param"), {Dictionary{{{text(kStar), {arrays.views.at(kStar)}}}}}},
                         {text("name"), {embedding.token}},
                         {text("step"), {embedding.step}},
                         {text("sd_checkpoint"), {}},
                         {text("sd_checkpoint_name"), checkpoint}}};
  return io::WriteTorchValue(path, {root});
}

std::string FileNameOf(const std::string& token) {
  std::string name;
  for (const char c : token) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '_' || c == '-') name += c;
  }
  while (name.starts_with('.')) name.erase(0, 1);
  return name.empty() ? "embedding" : name;
}

}  // namespace loupe::worker::methods::files
