#include "worker/base/base_model.h"

#include <sys/stat.h>
#include <torch/utils.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/base/class_base.h"
#include "worker/base/clip_unet.h"
#include "worker/io/json_config.h"
#include "worker/io/weight_files.h"
#include "worker/models/original_names.h"
#include "worker/models/weights.h"
#include "worker/runtime/finite.h"

namespace loupe::worker::base {
namespace {

bool Exists(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0;
}

// That these files are there, and if not, what the folder should have been.
absl::Status CheckLayout(const std::string& folder, std::initializer_list<const char*> files, std::string_view layout) {
  for (const char* file : files) {
    if (!Exists(folder + "/" + file)) {
      return absl::NotFoundError(fmt::format("{}/{}: not found; expected the folder of {}", folder, file, layout));
    }
  }
  return absl::OkStatus();
}

absl::Status WithSentence(const absl::Status& status, std::string_view sentence) {
  return absl::Status(status.code(), fmt::format("{}; {}", std::string(status.message()), sentence));
}

models::WeightOptions Rules(const models::LoadOptions& options) {
  return {.dtype = options.dtype, .device = options.device};
}

template <typename Network>
absl::Status Fill(Network& network, const std::string& folder, const std::string& stem,
                  const models::WeightOptions& rules) {
  LOUPE_ASSIGN_OR_RETURN(const io::WeightFiles files, io::WeightFiles::Open(folder, stem));
  LOUPE_RETURN_IF_ERROR(models::LoadWeights(*network, files, rules));
  network->eval();
  return absl::OkStatus();
}

absl::Status CheckFit(const std::string& folder, std::string_view what, int64_t found, std::string_view other,
                      int64_t expected) {
  if (found == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("{}: its parts do not fit: {} is {}, but {} is {}", folder, what, found, other, expected));
}

// Noise alone, or noise and variance.
absl::Status CheckOutput(const std::string& folder, io::BaseKind kind, int64_t in_channels, int64_t out_channels) {
  if (out_channels == in_channels || out_channels == 2 * in_channels) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("{}/{}/config.json: out_channels is {}, expected in_channels ({}), or twice that for a network that "
                  "predicts its variance",
                  folder, io::DenoiserFolder(kind), out_channels, in_channels));
}

absl::Status CheckTokenizer(const std::string& folder, const io::ClipTokenizer& tokenizer,
                            const models::ClipTextConfig& text) {
  if (tokenizer.vocab_size() <= text.vocab_size) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("{}: its parts do not fit: the tokenizer has {} tokens, but the text tower's vocab_size is {}",
                  folder, tokenizer.vocab_size(), text.vocab_size));
}

// Where the network's weights are, and their type.
torch::TensorOptions OptionsOf(torch::nn::Module& network) { return network.parameters().front().options(); }

// `values`, or NotFinite naming the part that gave them.
torch::Tensor Finite(torch::Tensor values, const std::string& folder, const char* part) {
  runtime::CheckFinite(values, fmt::format("{}: what the {} gives", folder, part));
  return values;
}

}  // namespace

Condition BaseModel::EncodeText(const std::vector<std::string>& captions) {
  torch::NoGradGuard no_grad;
  return Finite(conditioner->Encode(captions), folder, conditioner->name().c_str());
}

torch::Tensor BaseModel::EncodePictures(const torch::Tensor& pictures) {
  torch::NoGradGuard no_grad;
  return Finite(vae->Scale(vae->Encode(pictures.to(OptionsOf(*vae))).mean), folder, "VAE's encoder");
}

torch::Tensor BaseModel::DecodeLatents(const torch::Tensor& latents_scaled) {
  torch::NoGradGuard no_grad;
  // Before it is clamped, which would make white of an infinity.
  return Finite(vae->DecodeScaled(latents_scaled.to(OptionsOf(*vae))), folder, "VAE's decoder").clamp(-1.0, 1.0);
}

namespace {

// The one file at the top of the folder that has all three networks by the original code's names, where the UNet's own
// folder has no weights; nullopt: there is none.
absl::StatusOr<std::optional<io::WeightFiles>> OpenOriginalFile(const std::string& folder) {
  std::vector<std::string> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string ending = entry.path().extension();
    if (ending == ".safetensors" || ending == ".ckpt") files.push_back(entry.path().string());
  }
  if (files.empty() || !absl::IsNotFound(io::WeightFiles::Open(folder + "/unet", "diffusion_pytorch_model").status())) {
    return std::nullopt;
  }
  std::sort(files.begin(), files.end());
  if (files.size() > 1) {
    return absl::InvalidArgumentError(fmt::format(
        "{} and {}: expected one file with the weights of all three networks, or unet/, vae/ and text_encoder/ with theirs",
        files[0], files[1]));
  }
  LOUPE_ASSIGN_OR_RETURN(io::WeightFiles file, io::WeightFiles::OpenFile(files.front()));
  if (models::IsOriginalCheckpoint(file.arrays())) return file;
  return absl::InvalidArgumentError(
      fmt::format("{}: not a single file of Stable Diffusion v1, v2 or XL by the original names "
                  "(model.diffusion_model.…, first_stage_model.…, cond_stage_model.… or conditioner.embedders.…)",
                  files.front()));
}

template <typename Network>
absl::Status FillFromOriginal(Network& network, const io::WeightFiles& file, const models::LoadOptions& options,
                              const models::OriginalPlaces& places) {
  const models::OriginalArrays arrays = models::FromOriginal(*network, file.arrays(), places);
  LOUPE_RETURN_IF_ERROR(models::LoadWeights(*network, file.path(), arrays.views, Rules(options)));
  network->eval();
  return absl::OkStatus();
}

// A base of which only the autoencoder and the noise are there yet. `in_channels`: what the denoiser reads. `original`:
// where the autoencoder's weights are, if not in its folder.
absl::StatusOr<BaseModel> LoadCommonParts(const std::string& folder, io::BaseKind kind, int64_t in_channels,
                                          const models::LoadOptions& options,
                                          const io::WeightFiles* original = nullptr) {
  LOUPE_ASSIGN_OR_RETURN(auto vae_config, models::AutoencoderKLConfig::Read(folder + "/vae/config.json"));
  LOUPE_ASSIGN_OR_RETURN(auto schedule_config,
                         diffusion::NoiseScheduleConfig::Read(folder + "/scheduler/scheduler_config.json"));
  LOUPE_RETURN_IF_ERROR(CheckFit(folder, fmt::format("the {}'s in_channels", io::BaseKindName(kind)), in_channels,
                                 "the VAE's latent_channels", vae_config.latent_channels));
  BaseModel base{.folder = folder,
                 .denoiser = nullptr,
                 .conditioner = nullptr,
                 .kind = kind,
                 .vae = models::AutoencoderKL(vae_config),
                 .classes = {},
                 .schedule = diffusion::NoiseSchedule(schedule_config)};
  if (original != nullptr) {
    const auto levels = static_cast<int64_t>(vae_config.block_out_channels.size());
    LOUPE_RETURN_IF_ERROR(FillFromOriginal(base.vae, *original, options, [&](const std::string& name) {
      return models::OriginalPlace{.name = models::OriginalVaeName(name, levels)};
    }));
    return base;
  }
  models::WeightOptions vae_rules = Rules(options);
  // Stable Diffusion v1's own VAE files are from before diffusers renamed the attention layers.
  vae_rules.renamed = {
      {".query.", ".to_q."}, {".key.", ".to_k."}, {".value.", ".to_v."}, {".proj_attn.", ".to_out.0."}};
  LOUPE_RETURN_IF_ERROR(Fill(base.vae, folder + "/vae", "diffusion_pytorch_model", vae_rules));
  return base;
}

// A text tower and its tokenizer, in "text_encoder" and "tokenizer" or in those with "_2" behind.
absl::StatusOr<TextTower> LoadTextTower(const std::string& folder, const std::string& behind,
                                        const models::LoadOptions& options, const io::WeightFiles* original) {
  const std::string own = folder + "/text_encoder" + behind;
  const bool second = !behind.empty();
  LOUPE_ASSIGN_OR_RETURN(const models::ClipTextConfig config,
                         second ? models::ClipTextConfig::ReadWithProjection(own + "/config.json")
                                : models::ClipTextConfig::Read(own + "/config.json"));
  LOUPE_ASSIGN_OR_RETURN(io::ClipTokenizer tokenizer, io::ClipTokenizer::Load(folder + "/tokenizer" + behind));
  LOUPE_RETURN_IF_ERROR(CheckTokenizer(folder, tokenizer, config));
  TextTower tower{models::CLIPTextModel(config), std::move(tokenizer)};
  if (original != nullptr) {
    LOUPE_RETURN_IF_ERROR(
        FillFromOriginal(tower.network, *original, options, models::OriginalTextPlaces(original->arrays(), second)));
    return tower;
  }
  models::WeightOptions rules = Rules(options);
  rules.strip_prefix = "text_model.";
  rules.passed_over = {"embeddings.position_ids"};
  LOUPE_RETURN_IF_ERROR(Fill(tower.network, own, "model", rules));
  return tower;
}

// Stable Diffusion XL's, by its file; diffusers' default where it does not say.
absl::StatusOr<bool> ZeroesEmptyPrompts(const std::string& folder) {
  const std::string path = folder + "/model_index.json";
  if (!Exists(path)) return true;
  LOUPE_ASSIGN_OR_RETURN(io::JsonConfig index, io::JsonConfig::Read(path));
  const bool zeroes = index.Bool("force_zeros_for_empty_prompt", true);
  LOUPE_RETURN_IF_ERROR(index.status());
  return zeroes;
}

models::OriginalPlaces OriginalUNetPlaces(const models::UNet2DConditionConfig& config) {
  std::map<int64_t, bool> attends;
  const auto levels = static_cast<int64_t>(config.levels.size());
  for (int64_t i = 0; i < levels; ++i) attends[i] = config.levels[static_cast<size_t>(levels - 1 - i)].up_attention;
  return [attends, resnets = config.levels.front().resnets](const std::string& name) {
    return models::OriginalPlace{.name = models::OriginalUNetName(name, resnets, attends)};
  };
}

absl::Status CheckUNetFolder(const std::string& folder) {
  return CheckLayout(
      folder, {"unet/config.json", "vae/config.json", "text_encoder/config.json", "scheduler/scheduler_config.json"},
      "a base in the diffusers layout of Stable Diffusion, with unet/, vae/, text_encoder/, "
      "tokenizer/ and scheduler/ (XL: and text_encoder_2/ and tokenizer_2/), or of DiT or DiffuSSM, with transformer/ "
      "or ssm/ in place of unet/, text_encoder/ and tokenizer/");
}

absl::StatusOr<BaseModel> LoadUNetBase(const std::string& folder, const models::LoadOptions& options) {
  LOUPE_RETURN_IF_ERROR(CheckUNetFolder(folder));
  auto read = models::UNet2DConditionConfig::Read(folder + "/unet/config.json");
  if (!read.ok()) {
    return WithSentence(read.status(), "a base must have the architecture of Stable Diffusion v1, v2 or XL");
  }
  const models::UNet2DConditionConfig unet_config = *std::move(read);
  LOUPE_RETURN_IF_ERROR(CheckOutput(folder, io::BaseKind::kUNet, unet_config.in_channels, unet_config.out_channels));
  LOUPE_ASSIGN_OR_RETURN(const std::optional<io::WeightFiles> found, OpenOriginalFile(folder));
  const io::WeightFiles* const original = found.has_value() ? &*found : nullptr;
  LOUPE_ASSIGN_OR_RETURN(TextTower tower, LoadTextTower(folder, "", options, original));
  const int64_t text_width = tower.network->config().encoder.hidden_size;
  std::optional<TextTower> second;
  if (unet_config.pooled_width == 0) {
    LOUPE_RETURN_IF_ERROR(CheckFit(folder, "the text tower's hidden_size", text_width, "the UNet's cross_attention_dim",
                                   unet_config.cross_attention_dim));
  } else {
    LOUPE_RETURN_IF_ERROR(
        CheckLayout(folder, {"text_encoder_2/config.json"}, "a base in the diffusers layout of Stable Diffusion XL"));
    LOUPE_ASSIGN_OR_RETURN(second, LoadTextTower(folder, "_2", options, original));
    const models::ClipTextConfig& text = second->network->config();
    LOUPE_RETURN_IF_ERROR(CheckFit(folder, "the two text towers' hidden_size", text_width + text.encoder.hidden_size,
                                   "the UNet's cross_attention_dim", unet_config.cross_attention_dim));
    LOUPE_RETURN_IF_ERROR(CheckFit(folder, "the second text tower's projection_dim", text.projection_dim,
                                   "what the UNet is told besides its sizes", unet_config.pooled_width));
  }
  LOUPE_ASSIGN_OR_RETURN(BaseModel base,
                         LoadCommonParts(folder, io::BaseKind::kUNet, unet_config.in_channels, options, original));
  base.unet = models::UNet2DConditionModel(unet_config);
  if (original != nullptr) {
    LOUPE_RETURN_IF_ERROR(FillFromOriginal(base.unet, *original, options, OriginalUNetPlaces(unet_config)));
  } else {
    LOUPE_RETURN_IF_ERROR(Fill(base.unet, folder + "/unet", "diffusion_pytorch_model", Rules(options)));
  }
  base.text_encoder = tower.network;
  base.denoiser = MakeUNetDenoiser(base.unet, base.vae->config().downscale());
  if (second.has_value()) {
    LOUPE_ASSIGN_OR_RETURN(const bool zero_empty, ZeroesEmptyPrompts(folder));
    base.conditioner = MakeTwoTowerConditioner(std::move(tower), *std::move(second), zero_empty);
  } else {
    base.conditioner = MakeClipConditioner(tower.network, std::move(tower.tokenizer));
  }
  return base;
}

absl::Status CheckClassBase(const std::string& folder, io::BaseKind kind) {
  const std::string own = fmt::format("{}/config.json", io::DenoiserFolder(kind));
  return CheckLayout(folder, {own.c_str(), "vae/config.json", "scheduler/scheduler_config.json"},
                     fmt::format("a {} in the diffusers layout, with {}/, vae/ and scheduler/", io::BaseKindName(kind),
                                 io::DenoiserFolder(kind)));
}

absl::StatusOr<BaseModel> LoadDiTBase(const std::string& folder, const models::LoadOptions& options) {
  LOUPE_RETURN_IF_ERROR(CheckClassBase(folder, io::BaseKind::kDiT));
  const std::string own = folder + "/transformer";
  LOUPE_ASSIGN_OR_RETURN(models::DiTConfig config, models::DiTConfig::Read(own + "/config.json"));
  LOUPE_RETURN_IF_ERROR(CheckOutput(folder, io::BaseKind::kDiT, config.in_channels, config.out_channels));
  LOUPE_ASSIGN_OR_RETURN(BaseModel base, LoadCommonParts(folder, io::BaseKind::kDiT, config.in_channels, options));
  LOUPE_ASSIGN_OR_RETURN(base.classes, io::ClassNames::Read(folder, config.classes));
  LOUPE_ASSIGN_OR_RETURN(const models::DiTWeights weights, models::OpenDiTWeights(own, config));
  base.dit = models::DiTTransformer2DModel(config);
  LOUPE_RETURN_IF_ERROR(models::LoadWeights(*base.dit, weights.files.path(), weights.arrays, Rules(options)));
  base.dit->eval();
  base.denoiser = MakeDiTDenoiser(base.dit);
  base.conditioner = MakeClassConditioner(base.classes, folder);
  return base;
}

absl::StatusOr<BaseModel> LoadDiffuSSMBase(const std::string& folder, const models::LoadOptions& options) {
  LOUPE_RETURN_IF_ERROR(CheckClassBase(folder, io::BaseKind::kDiffuSSM));
  const std::string own = folder + "/ssm";
  LOUPE_ASSIGN_OR_RETURN(const models::DiffuSSMConfig config, models::DiffuSSMConfig::Read(own + "/config.json"));
  LOUPE_RETURN_IF_ERROR(CheckOutput(folder, io::BaseKind::kDiffuSSM, config.in_channels, config.out_channels));
  LOUPE_ASSIGN_OR_RETURN(BaseModel base, LoadCommonParts(folder, io::BaseKind::kDiffuSSM, config.in_channels, options));
  LOUPE_ASSIGN_OR_RETURN(base.classes, io::ClassNames::Read(folder, config.classes));
  base.ssm = models::DiffuSSMModel(config);
  LOUPE_RETURN_IF_ERROR(Fill(base.ssm, own, "diffusion_pytorch_model", Rules(options)));
  base.denoiser = MakeDiffuSSMDenoiser(base.ssm);
  base.conditioner = MakeClassConditioner(base.classes, folder);
  return base;
}

}  // namespace

absl::StatusOr<BaseModel> LoadBase(const std::string& folder, const models::LoadOptions& options) {
  LOUPE_ASSIGN_OR_RETURN(const io::BaseKind kind, io::BaseKindOf(folder));
  switch (kind) {
    case io::BaseKind::kUNet:
      return LoadUNetBase(folder, options);
    case io::BaseKind::kDiT:
      return LoadDiTBase(folder, options);
    case io::BaseKind::kDiffuSSM:
      return LoadDiffuSSMBase(folder, options);
  }
  return absl::InternalError("a kind of base without a loader");
}

namespace {

// Another denoiser's network, at another size.
class ResizedDenoiser : public Denoiser {
 public:
  ResizedDenoiser(std::shared_ptr<Denoiser> inner, int64_t side) : inner_(std::move(inner)), side_(side) {}

  torch::Tensor Forward(const torch::Tensor& x_t, const torch::Tensor& timesteps, const Condition& condition,
                        nn::ContextCache* cache) override {
    return inner_->Forward(x_t, timesteps, condition, cache);
  }
  std::vector<int64_t> Shape() const override { return {inner_->Shape().front(), side_, side_}; }
  bool PredictsVariance() const override { return inner_->PredictsVariance(); }
  torch::nn::Module& network() override { return inner_->network(); }
  std::string name() const override { return inner_->name(); }

 private:
  const std::shared_ptr<Denoiser> inner_;
  const int64_t side_;
};

}  // namespace

absl::StatusOr<BaseModel> AtPictureSize(const BaseModel& base, int64_t side, nn::PositionScaling positions) {
  BaseModel resized = base;
  std::shared_ptr<Denoiser> inner = base.denoiser;
  int64_t step = base.vae->config().downscale();
  if (base.kind == io::BaseKind::kDiT) {
    step *= base.dit->config().patch_size;
    inner = MakeDiTDenoiser(base.dit, positions);
  } else if (base.kind == io::BaseKind::kDiffuSSM) {
    step *= base.ssm->config().hourglass;
    inner = MakeDiffuSSMDenoiser(base.ssm, positions);
  }
  if (side < step || side % step != 0) {
    return absl::InvalidArgumentError(
        fmt::format("{}: pictures of {} pixels do not fit it; expected a multiple of {}", base.folder, side, step));
  }
  resized.denoiser = std::make_shared<ResizedDenoiser>(std::move(inner), side / base.vae->config().downscale());
  resized.size_note = fmt::format("{} pixels, positions {}", side, static_cast<int>(positions));
  return resized;
}

torch::Tensor ClipScorer::EmbedImages(const std::vector<io::Image>& images) {
  torch::NoGradGuard no_grad;
  return Finite(clip->ImageFeatures(preprocessing.Apply(images).to(OptionsOf(*clip))).to(torch::kCPU, torch::kFloat32),
                folder, "vision tower");
}

torch::Tensor ClipScorer::EmbedTexts(const std::vector<std::string>& texts) {
  torch::NoGradGuard no_grad;
  const int64_t length = std::min(tokenizer.max_length(), clip->text_model->config().max_positions);
  const auto ids = TokeniseTo(tokenizer, texts, length).to(OptionsOf(*clip).device());
  return Finite(clip->TextFeatures(ids).to(torch::kCPU, torch::kFloat32), folder, "text tower");
}

absl::StatusOr<ClipScorer> LoadClipScorer(const std::string& folder, const models::LoadOptions& options) {
  LOUPE_RETURN_IF_ERROR(CheckLayout(folder, {"config.json"},
                                    "a CLIP model in the transformers layout, with config.json, model.safetensors, "
                                    "preprocessor_config.json and the tokenizer's files"));
  LOUPE_ASSIGN_OR_RETURN(const auto config, models::ClipConfig::Read(folder + "/config.json"));
  LOUPE_ASSIGN_OR_RETURN(auto tokenizer, io::ClipTokenizer::Load(folder));
  LOUPE_ASSIGN_OR_RETURN(auto preprocessing,
                         models::PicturePreprocessing::Read(folder, models::PicturePreprocessing::Defaults::kClip));
  LOUPE_RETURN_IF_ERROR(CheckTokenizer(folder, tokenizer, config.text));
  LOUPE_RETURN_IF_ERROR(CheckFit(folder, "the preprocessing's crop_size", preprocessing.size,
                                 "the vision tower's image_size", config.vision.image_size));
  ClipScorer scorer{folder, models::CLIPModel(config), std::move(tokenizer), preprocessing};
  models::WeightOptions rules = Rules(options);
  rules.passed_over = {"embeddings.position_ids"};
  LOUPE_RETURN_IF_ERROR(Fill(scorer.clip, folder, "model", rules));
  return scorer;
}

torch::Tensor PictureFromImage(const io::Image& image) {
  const auto bytes = torch::tensor(at::ArrayRef<uint8_t>(image.rgb)).view({image.height, image.width, 3});
  return (bytes.permute({2, 0, 1}).to(torch::kFloat32) / 127.5 - 1.0).contiguous();
}

std::vector<io::Image> ImagesFromPictures(const torch::Tensor& pictures) {
  const auto batch = pictures.dim() == 3 ? pictures.unsqueeze(0) : pictures;
  const auto bytes = ((batch.detach().to(torch::kCPU, torch::kFloat32) / 2 + 0.5).clamp(0.0, 1.0) * 255.0)
                         .round()
                         .to(torch::kUInt8)
                         .permute({0, 2, 3, 1})
                         .contiguous();
  std::vector<io::Image> images;
  for (int64_t i = 0; i < bytes.size(0); ++i) {
    const auto one = bytes[i];
    const uint8_t* data = one.const_data_ptr<uint8_t>();
    images.push_back(
        {static_cast<int>(one.size(1)), static_cast<int>(one.size(0)), std::vector<uint8_t>(data, data + one.numel())});
  }
  return images;
}

}  // namespace loupe::worker::base
