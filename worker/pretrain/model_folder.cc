#include "worker/pretrain/model_folder.h"

#include <map>

#include "common/atomic_file.h"
#include "fmt/format.h"
#include "nlohmann/json.hpp"
#include "worker/io/safetensors.h"
#include "worker/models/weights.h"
#include "worker/runtime/finite.h"

namespace loupe::worker::pretrain {
namespace {

using Json = nlohmann::ordered_json;

absl::Status Write(const std::string& path, const Json& json) { return WriteFileAtomically(path, json.dump(2) + "\n"); }

Json TextTower(const ClipPart& part, const io::ClipTokenizer& tokenizer) {
  return {{"architectures", Json::array({"CLIPTextModel"})},
          {"attention_dropout", 0.0},
          {"bos_token_id", tokenizer.bos_id()},
          {"eos_token_id", tokenizer.eos_id()},
          {"hidden_act", "quick_gelu"},
          {"hidden_size", part.width},
          {"intermediate_size", part.inner},
          {"layer_norm_eps", 1e-5},
          {"max_position_embeddings", tokenizer.max_length()},
          {"model_type", "clip_text_model"},
          {"num_attention_heads", part.heads},
          {"num_hidden_layers", part.text_layers},
          {"pad_token_id", tokenizer.pad_id()},
          {"projection_dim", part.projection},
          {"vocab_size", tokenizer.vocab_size()}};
}

}  // namespace

absl::Status WriteVaeConfig(const std::string& folder, const VaePart& part, int64_t picture_size,
                            double scaling_factor) {
  Json down = Json::array(), up = Json::array();
  for (size_t i = 0; i < part.channels.size(); ++i) {
    down.push_back("DownEncoderBlock2D");
    up.push_back("UpDecoderBlock2D");
  }
  return Write(folder + "/config.json", {{"_class_name", "AutoencoderKL"},
                                         {"_diffusers_version", kDiffusersVersion},
                                         {"act_fn", "silu"},
                                         {"block_out_channels", part.channels},
                                         {"down_block_types", down},
                                         {"in_channels", 3},
                                         {"latent_channels", 4},
                                         {"layers_per_block", 1},
                                         {"mid_block_add_attention", true},
                                         {"norm_num_groups", part.groups},
                                         {"out_channels", 3},
                                         {"sample_size", picture_size},
                                         {"scaling_factor", scaling_factor},
                                         {"up_block_types", up}});
}

absl::Status WriteUNetConfig(const std::string& folder, const UNetPart& part, int64_t latent_size,
                             int64_t context_width) {
  Json down = Json::array(), up = Json::array();
  for (size_t i = 0; i < part.channels.size(); ++i) {
    const bool lowest = i + 1 == part.channels.size();
    down.push_back(lowest ? "DownBlock2D" : "CrossAttnDownBlock2D");
    up.insert(up.begin(), lowest ? "UpBlock2D" : "CrossAttnUpBlock2D");
  }
  return Write(folder + "/config.json", {{"_class_name", "UNet2DConditionModel"},
                                         {"_diffusers_version", kDiffusersVersion},
                                         {"act_fn", "silu"},
                                         // The number of heads: diffusers kept this key's name for Stable Diffusion v1.
                                         {"attention_head_dim", part.heads},
                                         {"block_out_channels", part.channels},
                                         {"center_input_sample", false},
                                         {"cross_attention_dim", context_width},
                                         {"down_block_types", down},
                                         {"downsample_padding", 1},
                                         {"flip_sin_to_cos", true},
                                         {"freq_shift", 0},
                                         {"in_channels", 4},
                                         {"layers_per_block", 1},
                                         {"mid_block_scale_factor", 1},
                                         {"mid_block_type", "UNetMidBlock2DCrossAttn"},
                                         {"norm_eps", 1e-5},
                                         {"norm_num_groups", part.groups},
                                         {"out_channels", 4},
                                         {"sample_size", latent_size},
                                         {"up_block_types", up}});
}

absl::Status WriteClipConfig(const std::string& folder, const ClipPart& part, const io::ClipTokenizer& tokenizer,
                             int64_t picture_size) {
  const Json vision = {{"architectures", Json::array({"CLIPVisionModelWithProjection"})},
                       {"attention_dropout", 0.0},
                       {"hidden_act", "quick_gelu"},
                       {"hidden_size", part.image_width},
                       {"image_size", picture_size},
                       {"intermediate_size", part.image_inner},
                       {"layer_norm_eps", 1e-5},
                       {"model_type", "clip_vision_model"},
                       {"num_attention_heads", part.image_heads},
                       {"num_channels", 3},
                       {"num_hidden_layers", part.image_layers},
                       {"patch_size", part.patch},
                       {"projection_dim", part.projection}};
  if (absl::Status status = Write(folder + "/config.json", {{"architectures", Json::array({"CLIPModel"})},
                                                            {"dtype", "float16"},
                                                            {"logit_scale_init_value", 2.6592},
                                                            {"model_type", "clip"},
                                                            {"projection_dim", part.projection},
                                                            {"text_config", TextTower(part, tokenizer)},
                                                            {"vision_config", vision}});
      !status.ok()) {
    return status;
  }
  return Write(folder + "/preprocessor_config.json",
               {{"crop_size", {{"height", picture_size}, {"width", picture_size}}},
                {"do_center_crop", true},
                {"do_convert_rgb", true},
                {"do_normalize", true},
                {"do_rescale", true},
                {"do_resize", true},
                {"image_mean", {0.48145466, 0.4578275, 0.40821073}},
                {"image_processor_type", "CLIPImageProcessor"},
                {"image_std", {0.26862954, 0.26130258, 0.27577711}},
                {"resample", 3},
                {"rescale_factor", 0.00392156862745098},
                {"size", {{"shortest_edge", picture_size}}}});
}

absl::Status WriteTextEncoderConfig(const std::string& folder, const ClipPart& part,
                                    const io::ClipTokenizer& tokenizer) {
  return Write(folder + "/config.json", TextTower(part, tokenizer));
}

absl::Status WriteSchedulerConfig(const std::string& folder, const UNetStageOptions& options) {
  return Write(folder + "/scheduler_config.json", {{"_class_name", "DPMSolverMultistepScheduler"},
                                                   {"_diffusers_version", kDiffusersVersion},
                                                   {"algorithm_type", "dpmsolver++"},
                                                   {"beta_end", options.beta_end},
                                                   {"beta_schedule", "scaled_linear"},
                                                   {"beta_start", options.beta_start},
                                                   {"num_train_timesteps", options.train_steps},
                                                   {"prediction_type", "epsilon"},
                                                   {"solver_order", 2},
                                                   {"solver_type", "midpoint"},
                                                   {"steps_offset", 1},
                                                   {"timestep_spacing", "linspace"}});
}

absl::Status WriteModelIndex(const std::string& folder) {
  const Json none = Json::array({nullptr, nullptr});
  return Write(folder + "/model_index.json", {{"_class_name", "StableDiffusionPipeline"},
                                              {"_diffusers_version", kDiffusersVersion},
                                              {"feature_extractor", none},
                                              {"image_encoder", none},
                                              {"requires_safety_checker", false},
                                              {"safety_checker", none},
                                              {"scheduler", Json::array({"diffusers", "DPMSolverMultistepScheduler"})},
                                              {"text_encoder", Json::array({"transformers", "CLIPTextModel"})},
                                              {"tokenizer", Json::array({"transformers", "CLIPTokenizer"})},
                                              {"unet", Json::array({"diffusers", "UNet2DConditionModel"})},
                                              {"vae", Json::array({"diffusers", "AutoencoderKL"})}});
}

absl::Status WriteHalf(const std::string& path, const std::map<std::string, torch::Tensor>& weights) {
  std::map<std::string, torch::Tensor> half;
  for (const auto& [name, weight] : weights) {
    torch::Tensor& value = half[name] = weight.detach().to(torch::kHalf);
    if (const std::string found = runtime::DescribeNotFinite(value); !found.empty()) {
      return absl::FailedPreconditionError(
          fmt::format("{}: '{}' in float16: {}; training diverged, lower its rates", path, name, found));
    }
  }
  return io::WriteSafetensors(path, models::ToArrays(half).views, {{"format", "pt"}});
}

absl::Status WriteHalf(const std::string& path, const torch::nn::Module& network, const std::string& prefix) {
  std::map<std::string, torch::Tensor> weights;
  for (const auto& item : network.named_parameters()) weights[prefix + item.key()] = item.value();
  return WriteHalf(path, weights);
}

}  // namespace loupe::worker::pretrain
