#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/io/json_config.h"
#include "worker/models/unet_2d_condition.h"

namespace loupe::worker::models {
namespace {

// Settings of diffusers' class that this one knows in a single form (null or absent counts as that form).
void RefuseOtherArithmetic(io::JsonConfig& json) {
  json.MustBe("_class_name", {"UNet2DConditionModel"});
  json.MustBe("act_fn", {"silu"});
  json.MustBe("attention_type", {"default"});
  json.MustBe("center_input_sample", {false});
  json.MustBe("class_embeddings_concat", {false});
  json.MustBe("conv_in_kernel", {3});
  json.MustBe("conv_out_kernel", {3});
  json.MustBe("downsample_padding", {1});
  json.MustBe("dual_cross_attention", {false});
  json.MustBe("mid_block_only_cross_attention", {false});
  json.MustBe("mid_block_scale_factor", {1});
  json.MustBe("mid_block_type", {"UNetMidBlock2DCrossAttn"});
  json.MustBe("only_cross_attention", {false});
  json.MustBe("resnet_out_scale_factor", {1.0});
  json.MustBe("resnet_skip_time_act", {false});
  json.MustBe("resnet_time_scale_shift", {"default"});
  json.MustBe("time_embedding_type", {"positional"});
  for (const char* key : {"class_embed_type", "cross_attention_norm", "encoder_hid_dim", "encoder_hid_dim_type",
                          "num_class_embeds", "reverse_transformer_layers_per_block", "time_cond_proj_dim",
                          "time_embedding_act_fn", "time_embedding_dim", "timestep_post_act"}) {
    json.MustBe(key, {nullptr});
  }
  // Mean something only beside settings refused above; dropout is for pre-training; upcast_attention is a precision,
  // and attention is computed in float32 on the CPU anyway.
  json.Ignore({"addition_embed_type_num_heads", "dropout", "upcast_attention"});
}

// Stable Diffusion XL's: the pooled text and six sizes, as one vector.
void ReadAddedCondition(io::JsonConfig& json, UNet2DConditionConfig& config) {
  if (!json.Has("addition_embed_type")) {
    json.MustBe("projection_class_embeddings_input_dim", {nullptr});
    json.Ignore({"addition_embed_type", "addition_time_embed_dim"});
    return;
  }
  json.MustBe("addition_embed_type", {"text_time"});
  config.addition_time_embed_dim = json.Int("addition_time_embed_dim");
  const int64_t told = json.Int("projection_class_embeddings_input_dim");
  if (config.addition_time_embed_dim < 2 || config.addition_time_embed_dim % 2 != 0) {
    json.Refuse("addition_time_embed_dim", "an even number, 2 or more");
  }
  const int64_t sizes = AddedCondition::kSizes * config.addition_time_embed_dim;
  config.pooled_width = told - sizes;
  if (config.pooled_width < 1) {
    json.Refuse("projection_class_embeddings_input_dim",
                fmt::format("more than the {} sinusoids of {} sizes", sizes, AddedCondition::kSizes));
  }
}

bool HasAttention(io::JsonConfig& json, const char* key, const std::string& type, const char* plain,
                  const char* cross) {
  if (type != plain && type != cross) json.Refuse(key, fmt::format("a list of {} and {}", cross, plain));
  return type == cross;
}

}  // namespace

absl::StatusOr<UNet2DConditionConfig> UNet2DConditionConfig::Read(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(io::JsonConfig json, io::JsonConfig::Read(path));
  RefuseOtherArithmetic(json);
  UNet2DConditionConfig config;
  config.in_channels = json.Int("in_channels", 4);
  config.out_channels = json.Int("out_channels", 4);
  config.sample_size = json.Int("sample_size", 64);
  config.cross_attention_dim = json.Int("cross_attention_dim", 1280);
  config.norm_num_groups = json.Int("norm_num_groups", 32);
  config.norm_eps = json.Number("norm_eps", 1e-5);
  config.use_linear_projection = json.Bool("use_linear_projection", false);
  config.flip_sin_to_cos = json.Bool("flip_sin_to_cos", true);
  config.freq_shift = json.Number("freq_shift", 0.0);
  ReadAddedCondition(json, config);

  const auto channels = json.Ints("block_out_channels");
  const auto down = json.Strings("down_block_types");
  const auto up = json.Strings("up_block_types");
  if (json.status().ok() && (channels.empty() || down.size() != channels.size())) {
    json.Refuse("down_block_types", fmt::format("{} entries, as many as block_out_channels", channels.size()));
  }
  if (json.status().ok() && up.size() != channels.size()) {
    json.Refuse("up_block_types", fmt::format("{} entries, as many as block_out_channels", channels.size()));
  }
  LOUPE_RETURN_IF_ERROR(json.status());
  const size_t n = channels.size();
  const auto resnets = json.IntOrList("layers_per_block", n, 2);
  const auto layers = json.IntOrList("transformer_layers_per_block", n, 1);
  // diffusers' history: attention_head_dim holds the number of heads, unless num_attention_heads is there.
  const char* heads_key = json.Has("num_attention_heads") ? "num_attention_heads" : "attention_head_dim";
  const auto heads = json.IntOrList(heads_key, n, 8);
  json.Ignore({"num_attention_heads", "attention_head_dim"});

  for (size_t i = 0; i < n; ++i) {
    UNetLevel level;
    level.channels = channels[i];
    level.heads = heads[i];
    level.resnets = resnets[i];
    level.transformer_layers = layers[i];
    level.down_attention = HasAttention(json, "down_block_types", down[i], "DownBlock2D", "CrossAttnDownBlock2D");
    level.up_attention = HasAttention(json, "up_block_types", up[n - 1 - i], "UpBlock2D", "CrossAttnUpBlock2D");
    if (level.channels < 1 || config.norm_num_groups < 1 || level.channels % config.norm_num_groups != 0) {
      json.Refuse("block_out_channels", fmt::format("multiples of norm_num_groups ({})", config.norm_num_groups));
    }
    if (level.heads < 1 || level.channels % level.heads != 0) {
      json.Refuse(heads_key, fmt::format("numbers of heads that divide block_out_channels ({})", level.channels));
    }
    if (level.resnets < 1) json.Refuse("layers_per_block", "at least 1");
    if (level.transformer_layers < 1) json.Refuse("transformer_layers_per_block", "at least 1");
    config.levels.push_back(level);
  }
  if (config.levels.front().channels % 2 != 0) json.Refuse("block_out_channels", "an even first number");
  if (config.in_channels < 1) json.Refuse("in_channels", "at least 1");
  if (config.out_channels < 1) json.Refuse("out_channels", "at least 1");
  if (config.sample_size < 1) json.Refuse("sample_size", "at least 1");
  if (config.cross_attention_dim < 1) json.Refuse("cross_attention_dim", "at least 1");
  LOUPE_RETURN_IF_ERROR(json.FinishStrictly());
  return config;
}

}  // namespace loupe::worker::models
