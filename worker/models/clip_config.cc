#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/models/clip.h"

namespace loupe::worker::models {
namespace {

ClipEncoderConfig ReadEncoder(io::JsonConfig& json, int64_t width, int64_t intermediate, int64_t heads) {
  ClipEncoderConfig config;
  config.hidden_size = json.Int("hidden_size", width);
  config.intermediate_size = json.Int("intermediate_size", intermediate);
  config.heads = json.Int("num_attention_heads", heads);
  config.layers = json.Int("num_hidden_layers", 12);
  config.layer_norm_eps = json.Number("layer_norm_eps", 1e-5);
  const std::string activation = json.String("hidden_act", "quick_gelu");
  if (activation != "quick_gelu" && activation != "gelu") json.Refuse("hidden_act", "quick_gelu or gelu");
  config.activation = activation == "gelu" ? ClipActivation::kGelu : ClipActivation::kQuickGelu;
  if (config.hidden_size < 1) json.Refuse("hidden_size", "at least 1");
  if (config.heads < 1 || config.hidden_size % config.heads != 0) {
    json.Refuse("num_attention_heads", fmt::format("a number that divides hidden_size ({})", config.hidden_size));
  }
  if (config.layers < 1) json.Refuse("num_hidden_layers", "at least 1");
  if (config.intermediate_size < 1) json.Refuse("intermediate_size", "at least 1");
  return config;
}

// A tower's part of a CLIPModel's file. Old files (OpenAI's own) have it a second time under this name with _dict:
// where that is not null, transformers takes its values and its absent keys' defaults over the first's. Without both
// there are the defaults.
io::JsonConfig TowerOf(io::JsonConfig& json, const std::string& key) {
  for (const std::string& name : {key + "_dict", key}) {
    if (json.Has(name)) return json.Object(name);
  }
  return io::JsonConfig(json.path(), nlohmann::json::object());
}

}  // namespace

// Absent keys mean transformers' defaults (CLIP ViT-B/32). These files carry dozens of keys about text generation that
// a CLIP tower has no use for; those are passed over, unlike in the diffusion networks' configs.

ClipTextConfig ClipTextConfig::From(io::JsonConfig& json) {
  json.MustBe("model_type", {"clip_text_model"});
  ClipTextConfig config;
  config.encoder = ReadEncoder(json, 512, 2048, 8);
  config.vocab_size = json.Int("vocab_size", 49408);
  config.max_positions = json.Int("max_position_embeddings", 77);
  config.eos_token_id = json.Int("eos_token_id", 49407);
  if (config.vocab_size < 1) json.Refuse("vocab_size", "at least 1");
  if (config.max_positions < 2) json.Refuse("max_position_embeddings", "at least 2");
  return config;
}

absl::StatusOr<ClipTextConfig> ClipTextConfig::ReadWithProjection(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(io::JsonConfig json, io::JsonConfig::Read(path));
  ClipTextConfig config = From(json);
  config.projection_dim = json.Int("projection_dim", 512);
  if (config.projection_dim < 1) json.Refuse("projection_dim", "at least 1");
  LOUPE_RETURN_IF_ERROR(json.status());
  return config;
}

absl::StatusOr<ClipTextConfig> ClipTextConfig::Read(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(io::JsonConfig json, io::JsonConfig::Read(path));
  ClipTextConfig config = From(json);
  LOUPE_RETURN_IF_ERROR(json.status());
  return config;
}

ClipVisionConfig ClipVisionConfig::From(io::JsonConfig& json) {
  json.MustBe("model_type", {"clip_vision_model"});
  json.MustBe("num_channels", {3});
  ClipVisionConfig config;
  config.encoder = ReadEncoder(json, 768, 3072, 12);
  config.image_size = json.Int("image_size", 224);
  config.patch_size = json.Int("patch_size", 32);
  if (config.patch_size < 1 || config.image_size < config.patch_size) {
    json.Refuse("patch_size", fmt::format("1 to image_size ({})", config.image_size));
  }
  return config;
}

absl::StatusOr<ClipConfig> ClipConfig::Read(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(io::JsonConfig json, io::JsonConfig::Read(path));
  if (json.String("model_type", "") != "clip") json.Refuse("model_type", "\"clip\" (a CLIPModel with both towers)");
  ClipConfig config;
  config.projection_dim = json.Int("projection_dim", 512);
  if (config.projection_dim < 1) json.Refuse("projection_dim", "at least 1");
  io::JsonConfig text = TowerOf(json, "text_config");
  io::JsonConfig vision = TowerOf(json, "vision_config");
  LOUPE_RETURN_IF_ERROR(json.status());
  config.text = ClipTextConfig::From(text);
  config.vision = ClipVisionConfig::From(vision);
  LOUPE_RETURN_IF_ERROR(text.status());
  LOUPE_RETURN_IF_ERROR(vision.status());
  return config;
}

}  // namespace loupe::worker::models
