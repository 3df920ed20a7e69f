// DiT's config.json, and its weights in the layouts that there are.
#include <algorithm>
#include <filesystem>
#include <optional>
#include <system_error>
#include <vector>

#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/io/json_config.h"
#include "worker/models/dit.h"

namespace loupe::worker::models {
namespace {

using Arrays = std::map<std::string, io::ArrayView>;

constexpr char kEmbedding[] = ".norm1.emb.";

// Settings of diffusers' class that this one knows in a single form (null or absent counts as that form).
void RefuseOtherDiTs(io::JsonConfig& json) {
  json.MustBe("_class_name", {"DiTTransformer2DModel", "Transformer2DModel"});
  // The older class is also other transformers', and its defaults are theirs.
  if (json.String("_class_name", "") == "Transformer2DModel") {
    if (!json.Has("norm_type")) json.Refuse("norm_type", "\"ada_norm_zero\", which a Transformer2DModel has to say");
    if (!json.Has("activation_fn")) json.Refuse("activation_fn", "\"gelu-approximate\"");
    if (!json.Has("attention_bias")) json.Refuse("attention_bias", "true");
  }
  json.MustBe("activation_fn", {"gelu-approximate"});
  json.MustBe("attention_bias", {true});
  json.MustBe("double_self_attention", {false});
  json.MustBe("norm_elementwise_affine", {false});
  json.MustBe("norm_type", {"ada_norm_zero"});
  json.MustBe("only_cross_attention", {false});
  json.MustBe("use_linear_projection", {false});
  for (const char* key : {"caption_channels", "cross_attention_dim", "interpolation_scale", "num_vector_embeds",
                          "use_additional_conditions"}) {
    json.MustBe(key, {nullptr});
  }
  // Of the group norm that networks of this kind do not have; dropout is for pre-training; attention is computed in
  // float32 on the CPU anyway.
  json.Ignore({"attention_type", "dropout", "norm_num_groups", "upcast_attention"});
}

// ---- the published .pt

// Rows `index` of `parts` equal runs of rows.
io::ArrayView RowsPart(const io::ArrayView& array, int64_t index, int64_t parts) {
  io::ArrayView part = array;
  part.shape.front() /= parts;
  const size_t bytes = array.bytes.size() / static_cast<size_t>(parts);
  part.bytes = array.bytes.substr(static_cast<size_t>(index) * bytes, bytes);
  return part;
}

const std::vector<std::pair<std::string, std::string>>& PublishedNames() {
  static const std::vector<std::pair<std::string, std::string>> names = {
      {"x_embedder.proj.", "pos_embed.proj."},
      {"t_embedder.mlp.0.", "transformer_blocks.0.norm1.emb.timestep_embedder.linear_1."},
      {"t_embedder.mlp.2.", "transformer_blocks.0.norm1.emb.timestep_embedder.linear_2."},
      {"y_embedder.embedding_table.", "transformer_blocks.0.norm1.emb.class_embedder.embedding_table."},
      {"final_layer.adaLN_modulation.1.", "proj_out_1."},
      {"final_layer.linear.", "proj_out_2."},
      {".attn.proj.", ".attn1.to_out.0."},
      {".mlp.fc1.", ".ff.net.0.proj."},
      {".mlp.fc2.", ".ff.net.2."},
      {".adaLN_modulation.1.", ".norm1.linear."},
  };
  return names;
}

Arrays FromPublished(const Arrays& published) {
  Arrays arrays;
  for (const auto& [name, array] : published) {
    if (name == "pos_embed") continue;  // computed (GridPositions)
    std::string renamed = name.starts_with("blocks.") ? "transformer_" + name : name;
    if (const size_t at = renamed.find(".attn.qkv."); at != std::string::npos) {
      const std::string block = renamed.substr(0, at), value = renamed.substr(at + 10);
      if (!array.shape.empty() && array.shape.front() % 3 == 0) {
        arrays[block + ".attn1.to_q." + value] = RowsPart(array, 0, 3);
        arrays[block + ".attn1.to_k." + value] = RowsPart(array, 1, 3);
        arrays[block + ".attn1.to_v." + value] = RowsPart(array, 2, 3);
        continue;
      }
    }
    for (const auto& [from, to] : PublishedNames()) {
      if (const size_t at = renamed.find(from); at != std::string::npos && (at == 0 || from.front() == '.')) {
        renamed.replace(at, from.size(), to);
        break;
      }
    }
    arrays[renamed] = array;
  }
  return arrays;
}

// ---- diffusers' copies of the embedding

// "3" and "timestep_embedder.linear_1.weight" of "transformer_blocks.3.norm1.emb.timestep_embedder.linear_1.weight".
std::optional<std::pair<std::string, std::string>> EmbeddingName(const std::string& name) {
  const std::string prefix = "transformer_blocks.";
  const size_t at = name.find(kEmbedding);
  if (!name.starts_with(prefix) || at == std::string::npos) return std::nullopt;
  return std::pair{name.substr(prefix.size(), at - prefix.size()), name.substr(at + sizeof(kEmbedding) - 1)};
}

std::string EmbeddingOf(const std::string& block, const std::string& rest) {
  return fmt::format("transformer_blocks.{}{}{}", block, kEmbedding, rest);
}

bool CopiesDiffer(const Arrays& arrays) {
  for (const auto& [name, array] : arrays) {
    const auto parts = EmbeddingName(name);
    if (!parts) continue;
    const auto first = arrays.find(EmbeddingOf("0", parts->second));
    if (first == arrays.end() || first->second.bytes != array.bytes) return true;
  }
  return false;
}

// {stem}… as ever, or the one .pt or .pth of the folder.
absl::StatusOr<io::WeightFiles> OpenFiles(const std::string& folder) {
  auto found = io::WeightFiles::Open(folder, "diffusion_pytorch_model");
  if (found.ok() || !absl::IsNotFound(found.status())) return found;
  std::vector<std::string> published;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string ending = entry.path().extension().string();
    if (ending == ".pt" || ending == ".pth") published.push_back(entry.path().string());
  }
  if (published.empty()) return found;
  if (published.size() > 1) {
    std::sort(published.begin(), published.end());
    return absl::InvalidArgumentError(
        fmt::format("{} and {}: expected one file of weights", published[0], published[1]));
  }
  return io::WeightFiles::OpenFile(published.front());
}

}  // namespace

absl::StatusOr<DiTConfig> DiTConfig::Read(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(io::JsonConfig json, io::JsonConfig::Read(path));
  RefuseOtherDiTs(json);
  DiTConfig config;
  config.heads = json.Int("num_attention_heads", 16);
  config.head_width = json.Int("attention_head_dim", 72);
  config.in_channels = json.Int("in_channels", 4);
  config.out_channels = json.Int("out_channels", config.in_channels);
  config.layers = json.Int("num_layers", 28);
  config.sample_size = json.Int("sample_size", 32);
  config.patch_size = json.Int("patch_size", 2);
  config.classes = json.Int("num_embeds_ada_norm", 1000);
  config.norm_eps = json.Number("norm_eps", 1e-5);
  for (const auto& [key, value] :
       {std::pair{"num_attention_heads", config.heads}, std::pair{"attention_head_dim", config.head_width},
        std::pair{"in_channels", config.in_channels}, std::pair{"num_layers", config.layers},
        std::pair{"patch_size", config.patch_size}, std::pair{"num_embeds_ada_norm", config.classes}}) {
    if (value < 1) json.Refuse(key, "at least 1");
  }
  if (json.status().ok() && config.width() % 4 != 0) {
    json.Refuse("attention_head_dim", fmt::format("num_attention_heads ({}) times it a multiple of 4", config.heads));
  }
  if (json.status().ok() && (config.sample_size < config.patch_size || config.sample_size % config.patch_size != 0)) {
    json.Refuse("sample_size", fmt::format("a multiple of patch_size ({})", config.patch_size));
  }
  LOUPE_RETURN_IF_ERROR(json.FinishStrictly());
  return config;
}

absl::StatusOr<DiTWeights> OpenDiTWeights(const std::string& folder, DiTConfig& config) {
  LOUPE_ASSIGN_OR_RETURN(io::WeightFiles files, OpenFiles(folder));
  if (files.arrays().contains("x_embedder.proj.weight")) {
    config.published = true;
    config.time_freq_shift = 0;
    config.norm_eps = 1e-6;
    Arrays arrays = FromPublished(files.arrays());
    return DiTWeights{std::move(files), std::move(arrays)};
  }
  Arrays arrays = files.arrays();
  config.separate_embeddings = CopiesDiffer(arrays);
  std::erase_if(arrays, [&](const auto& item) {
    const auto parts = EmbeddingName(item.first);
    return parts && parts->first != "0" && !config.separate_embeddings;
  });
  return DiTWeights{std::move(files), std::move(arrays)};
}

std::map<std::string, torch::Tensor> AsDiffusersFile(std::map<std::string, torch::Tensor> weights,
                                                     const DiTConfig& config) {
  if (config.separate_embeddings) return weights;
  std::map<std::string, torch::Tensor> copies;
  for (const auto& [name, value] : weights) {
    const auto parts = EmbeddingName(name);
    for (int64_t block = 1; parts && block < config.layers; ++block) {
      copies[EmbeddingOf(std::to_string(block), parts->second)] = value;
    }
  }
  weights.merge(copies);
  return weights;
}

}  // namespace loupe::worker::models
