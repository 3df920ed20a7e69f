#include "worker/pretrain/pretrain.h"

#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>
#include <system_error>

#include "common/logging.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/io/clip_tokenizer.h"
#include "worker/models/autoencoder_kl.h"
#include "worker/models/clip.h"
#include "worker/models/unet_2d_condition.h"
#include "worker/models/weights.h"
#include "worker/pretrain/corpus.h"
#include "worker/pretrain/initial_weights.h"
#include "worker/pretrain/model_folder.h"
#include "worker/pretrain/old_checkpoint.h"
#include "worker/pretrain/pictures.h"
#include "worker/pretrain/scorer_report.h"
#include "worker/pretrain/sheet.h"
#include "worker/pretrain/step_draws.h"
#include "worker/runtime/finite.h"
#include "worker/sampling/sampler.h"

namespace loupe::worker::pretrain {
namespace {

namespace fs = std::filesystem;

constexpr char kDiffusionWeights[] = "/diffusion_pytorch_model.safetensors";
constexpr char kTextWeights[] = "/model.safetensors";
constexpr char kTextPrefix[] = "text_model.";

absl::Status MakeFolder(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) return absl::PermissionDeniedError(fmt::format("{}: cannot be made: {}", path, error.message()));
  return absl::OkStatus();
}

absl::Status CopyFolder(const std::string& from, const std::string& to) {
  std::error_code error;
  if (!fs::is_directory(from, error)) return absl::NotFoundError(fmt::format("{}: no such folder", from));
  LOUPE_RETURN_IF_ERROR(MakeFolder(to));
  fs::copy(from, to, fs::copy_options::recursive | fs::copy_options::overwrite_existing, error);
  if (error) return absl::PermissionDeniedError(fmt::format("{} to {}: {}", from, to, error.message()));
  return absl::OkStatus();
}

absl::Status Load(torch::nn::Module& network, const std::string& path, torch::Device device,
                  const std::string& prefix = "") {
  return models::LoadWeightFile(network, path, {.device = device, .strip_prefix = prefix});
}

torch::Tensor AsUnit(const torch::Tensor& minus_one_to_one) { return minus_one_to_one * 0.5 + 0.5; }

// `count` of them, or all, evenly over the list.
std::vector<data::EmojiItem> Spread(const std::vector<data::EmojiItem>& items, size_t count) {
  count = std::min(count, items.size());
  std::vector<data::EmojiItem> some;
  for (size_t i = 0; i < count; ++i) some.push_back(items[i * items.size() / count]);
  return some;
}

// Pictures moved by a drawn number of whole pixels, up to two each way, edges repeated; view 0 is as they are.
torch::Tensor Moved(const torch::Tensor& pictures, int64_t view, uint64_t seed) {
  if (view == 0) return pictures;
  constexpr int64_t kReach = 2;
  auto random = StepGenerator(seed, view, "unet/views");
  const auto moves = torch::randint(0, 2 * kReach + 1, {2}, random, torch::kInt64);
  const auto padded = torch::replication_pad2d(pictures, {kReach, kReach, kReach, kReach});
  return padded.narrow(2, moves[0].item<int64_t>(), pictures.size(2))
      .narrow(3, moves[1].item<int64_t>(), pictures.size(3));
}

// One run: what is common to the parts, and each part in turn. The networks live here, since later parts use them.
class Run {
 public:
  Run(const PretrainConfig& config, std::string out, const train::TrainingLimit& limit, torch::Device device)
      : config_(config), out_(std::move(out)), base_(out_ + "/base"), limit_(limit), device_(device) {}

  absl::Status Prepare();
  absl::Status Tokenizer();
  absl::StatusOr<train::TrainingEnd> Vae();
  absl::StatusOr<train::TrainingEnd> Clip();
  absl::Status TextEncoder();
  absl::StatusOr<train::TrainingEnd> UNet();
  absl::StatusOr<train::TrainingEnd> ClassDenoiser();

 private:
  std::string Checkpoint(const std::string& stage) const { return fmt::format("{}/work/{}.safetensors", out_, stage); }
  std::string Sheet(const std::string& stage, int64_t step) const {
    return fmt::format("{}/sheets/{}-{:06d}.png", out_, stage, step);
  }
  absl::StatusOr<train::TrainingEnd> Train(train::Objective& objective, const train::NetworkTraining& training);
  absl::StatusOr<std::string> LookAtVae(int64_t step);
  absl::StatusOr<std::string> LookAtClip();
  absl::StatusOr<std::string> LookAtUNet(int64_t step);
  absl::StatusOr<std::string> SampleSheet(const std::string& sheet, const std::vector<data::EmojiItem>& items);
  torch::Tensor Contexts(const std::vector<std::string>& captions);
  UNetData MakeUNetData();
  // Of the training pictures, per view: the autoencoder's means and standard deviations, scaled.
  void EncodeViews(int64_t count, torch::Tensor& latents_scaled, torch::Tensor& latents_spread);

  const PretrainConfig& config_;
  std::string out_, base_;
  train::TrainingLimit limit_;
  const torch::Device device_;
  Corpus corpus_;
  torch::Tensor pictures_;  // uint8 [all, 3, S, S], on device_ as the networks are
  std::optional<io::ClipTokenizer> tokenizer_;
  models::AutoencoderKL vae_{nullptr};
  models::CLIPModel clip_{nullptr};
  models::CLIPTextModel text_{nullptr};
  models::UNet2DConditionModel unet_{nullptr};
};

absl::Status Run::Prepare() {
  torch::set_num_threads(config_.threads);
  LOUPE_RETURN_IF_ERROR(MakeFolder(out_ + "/work"));
  LOUPE_RETURN_IF_ERROR(MakeFolder(out_ + "/sheets"));
  if (config_.pictures.empty()) {
    LOUPE_ASSIGN_OR_RETURN(corpus_, Corpus::Read(config_.items));
  } else {
    LOUPE_ASSIGN_OR_RETURN(corpus_, Corpus::ReadFolders(config_.pictures));
  }
  LOUPE_ASSIGN_OR_RETURN(const torch::Tensor pictures, DrawPictures(config_.font, corpus_, config_.picture_size));
  pictures_ = pictures.to(device_);
  LogInfo("{} pictures to train on, {} held out", corpus_.training.size(), corpus_.held_out.size());
  return absl::OkStatus();
}

absl::Status Run::Tokenizer() {
  if (!config_.tokenizer.present) return absl::OkStatus();
  const std::string folder = base_ + "/tokenizer";
  if (!config_.tokenizer.source.from.empty()) {
    LOUPE_RETURN_IF_ERROR(CopyFolder(config_.tokenizer.source.from, folder));
  } else {
    LOUPE_RETURN_IF_ERROR(MakeFolder(folder));
    std::vector<std::string> texts;
    for (const data::EmojiItem& item : corpus_.training) {
      // Names come alone, after "a photo of" and before keywords, so they count for three.
      texts.insert(texts.end(), {item.name, "a photo of " + item.name, MainCaption(item)});
      texts.insert(texts.end(), item.keywords.begin(), item.keywords.end());
    }
    LOUPE_RETURN_IF_ERROR(WriteTokenizer(folder, TrainBpe(texts, config_.tokenizer.bpe), config_.tokenizer.max_length));
  }
  LOUPE_ASSIGN_OR_RETURN(io::ClipTokenizer tokenizer, io::ClipTokenizer::Load(folder));
  LogInfo("tokenizer: {} tokens", tokenizer.vocab_size());
  tokenizer_.emplace(std::move(tokenizer));
  return absl::OkStatus();
}

absl::StatusOr<train::TrainingEnd> Run::Train(train::Objective& objective, const train::NetworkTraining& training) {
  const std::string checkpoint = Checkpoint(objective.name());
  const std::string fingerprint = PretrainingFingerprint(objective.name(), config_.seed);
  LOUPE_RETURN_IF_ERROR(UpgradeOldCheckpoint(checkpoint));
  return train::TrainNetwork(objective, training, fingerprint, limit_, checkpoint);
}

absl::StatusOr<train::TrainingEnd> Run::Vae() {
  const VaePart& part = config_.vae;
  if (!part.present) return train::TrainingEnd::kFinished;
  const std::string folder = base_ + "/vae";
  if (!part.source.from.empty()) {
    LOUPE_RETURN_IF_ERROR(CopyFolder(part.source.from, folder));
  } else if (!fs::exists(folder + "/config.json")) {
    LOUPE_RETURN_IF_ERROR(MakeFolder(folder));
    LOUPE_RETURN_IF_ERROR(WriteVaeConfig(folder, part, config_.picture_size, 1.0));
  }
  LOUPE_ASSIGN_OR_RETURN(const models::AutoencoderKLConfig shape,
                         models::AutoencoderKLConfig::Read(folder + "/config.json"));
  vae_ = models::AutoencoderKL(shape);
  if (!part.source.from.empty()) {
    LOUPE_RETURN_IF_ERROR(Load(*vae_, folder + kDiffusionWeights, device_));
    return train::TrainingEnd::kFinished;
  }
  nn::InitialiseAsTorch(*vae_, StepGenerator(config_.seed, 0, "vae/init"));
  ZeroLastLayers(*vae_, {"conv2"});
  if (!part.source.init_from.empty())
    LOUPE_RETURN_IF_ERROR(Load(*vae_, part.source.init_from + kDiffusionWeights, device_));
  vae_->to(device_);
  VaeStage stage(vae_, PicturesOf(pictures_, corpus_.training), part.options, config_.seed,
                 [this](int64_t step) { return LookAtVae(step); });
  return Train(stage, part.schedule);
}

absl::StatusOr<std::string> Run::LookAtVae(int64_t step) {
  torch::NoGradGuard no_grad;
  constexpr size_t kMeasured = 2048;  // of more pictures, so many, evenly over the list
  const auto training = PicturesOf(pictures_, Spread(corpus_.training, kMeasured));
  auto deviation = 0.0;
  std::vector<torch::Tensor> latents;
  for (const auto& some : training.split(64)) {
    latents.push_back(vae_->Encode(some.to(torch::kFloat32) / 127.5 - 1).mean);
  }
  deviation = torch::cat(latents).std().item<double>();
  const std::string folder = base_ + "/vae";
  LOUPE_RETURN_IF_ERROR(WriteVaeConfig(folder, config_.vae, config_.picture_size, 1 / std::max(deviation, 1e-6)));
  LOUPE_RETURN_IF_ERROR(WriteHalf(folder + kDiffusionWeights, *vae_));

  const auto& others = corpus_.held_out.empty() ? corpus_.training : corpus_.held_out;
  const auto shown = PicturesOf(pictures_, Spread(others, 16));
  const auto unit = shown.to(torch::kFloat32) / 255;
  const auto rebuilt = AsUnit(vae_->Decode(vae_->Encode(unit * 2 - 1).mean));
  LOUPE_RETURN_IF_ERROR(WriteSheet(Sheet("vae", step), torch::cat({unit, rebuilt}), shown.size(0)));
  std::string seen = fmt::format("PSNR {:.2f} dB on training pictures", ReconstructionPsnr(vae_, training));
  std::map<std::string, std::vector<data::EmojiItem>> held_out;
  for (const data::EmojiItem& item : corpus_.held_out) held_out[item.held_out].push_back(item);
  for (const auto& [family, items] : held_out) {
    seen += fmt::format(", {:.2f} of held out '{}'", ReconstructionPsnr(vae_, PicturesOf(pictures_, items)), family);
  }
  return fmt::format("{}; scaling {:.4f}", seen, 1 / deviation);
}

absl::StatusOr<train::TrainingEnd> Run::Clip() {
  const ClipPart& part = config_.clip;
  if (!part.present) return train::TrainingEnd::kFinished;
  const std::string folder = out_ + "/clip";
  LOUPE_RETURN_IF_ERROR(CopyFolder(part.source.from.empty() ? base_ + "/tokenizer" : part.source.from, folder));
  if (part.source.from.empty()) {
    LOUPE_RETURN_IF_ERROR(WriteClipConfig(folder, part, *tokenizer_, config_.picture_size));
  }
  LOUPE_ASSIGN_OR_RETURN(const models::ClipConfig shape, models::ClipConfig::Read(folder + "/config.json"));
  clip_ = models::CLIPModel(shape);
  if (!part.source.from.empty()) {
    LOUPE_RETURN_IF_ERROR(Load(*clip_, folder + kTextWeights, device_));
    return train::TrainingEnd::kFinished;
  }
  InitialiseClip(clip_, StepGenerator(config_.seed, 0, "clip/init"));
  if (!part.source.init_from.empty())
    LOUPE_RETURN_IF_ERROR(Load(*clip_, part.source.init_from + kTextWeights, device_));
  clip_->to(device_);
  ClipStage stage(clip_, *tokenizer_, corpus_.training, PicturesOf(pictures_, corpus_.training),
                  tokenizer_->max_length(), part.options, config_.seed, [this](int64_t) { return LookAtClip(); });
  return Train(stage, part.schedule);
}

absl::StatusOr<std::string> Run::LookAtClip() {
  LOUPE_RETURN_IF_ERROR(WriteHalf(out_ + "/clip" + kTextWeights, *clip_));
  return DescribeScorer(clip_, *tokenizer_, corpus_, pictures_, tokenizer_->max_length());
}

absl::Status Run::TextEncoder() {
  if (!config_.unet.present) return absl::OkStatus();
  const std::string folder = base_ + "/text_encoder";
  if (!config_.text_encoder_from.empty()) {
    LOUPE_RETURN_IF_ERROR(CopyFolder(config_.text_encoder_from, folder));
  } else {
    LOUPE_RETURN_IF_ERROR(MakeFolder(folder));
    if (config_.clip.source.from.empty()) {
      LOUPE_RETURN_IF_ERROR(WriteTextEncoderConfig(folder, config_.clip, *tokenizer_));
    } else {
      return absl::InvalidArgumentError("with clip.from, name the text tower's own folder as text_encoder_from");
    }
    LOUPE_RETURN_IF_ERROR(WriteHalf(folder + kTextWeights, *clip_->text_model, kTextPrefix));
  }
  // Read back: the UNet learns on the float16 weights that it will be used with.
  LOUPE_ASSIGN_OR_RETURN(const models::ClipTextConfig shape, models::ClipTextConfig::Read(folder + "/config.json"));
  text_ = models::CLIPTextModel(shape);
  return Load(*text_, folder + kTextWeights, device_, kTextPrefix);
}

torch::Tensor Run::Contexts(const std::vector<std::string>& captions) {
  torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> parts;
  const int64_t length = tokenizer_->max_length();
  for (size_t begin = 0; begin < captions.size(); begin += 256) {
    std::vector<int64_t> ids;
    const size_t end = std::min(captions.size(), begin + 256);
    for (size_t i = begin; i < end; ++i) {
      const auto row = tokenizer_->Encode(captions[i], length);
      ids.insert(ids.end(), row.begin(), row.end());
    }
    parts.push_back(text_(torch::tensor(ids).view({-1, length}).to(device_)));
  }
  return torch::cat(parts);
}

void Run::EncodeViews(int64_t count, torch::Tensor& latents_scaled, torch::Tensor& latents_spread) {
  torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> views, view_spreads;
  for (int64_t view = 0; view < count; ++view) {
    std::vector<torch::Tensor> means, spreads;
    for (const auto& some : PicturesOf(pictures_, corpus_.training).split(64)) {
      const auto moved = Moved(some.to(torch::kFloat32) / 127.5 - 1, view, config_.seed);
      const models::LatentDistribution q = vae_->Encode(moved);
      means.push_back(vae_->Scale(q.mean));
      spreads.push_back(vae_->Scale((0.5 * q.logvar).exp()));
    }
    views.push_back(torch::cat(means));
    view_spreads.push_back(torch::cat(spreads));
  }
  latents_scaled = torch::stack(views);
  latents_spread = torch::stack(view_spreads);
}

UNetData Run::MakeUNetData() {
  torch::NoGradGuard no_grad;
  UNetData data;
  EncodeViews(config_.unet.views, data.latents_scaled, data.latents_spread);

  std::mt19937_64 random(config_.seed);
  std::vector<std::string> captions;
  for (const data::EmojiItem& item : corpus_.training) {
    const auto some = FixedCaptions(item, config_.unet.mixed_captions, random);
    captions.insert(captions.end(), some.begin(), some.end());
  }
  const auto context = Contexts(captions);
  data.context = context.view({static_cast<int64_t>(corpus_.training.size()), -1, context.size(1), context.size(2)});
  data.empty_context = Contexts({""})[0];
  return data;
}

absl::StatusOr<train::TrainingEnd> Run::UNet() {
  const UNetPart& part = config_.unet;
  if (!part.present) return train::TrainingEnd::kFinished;
  const std::string folder = base_ + "/unet";
  LOUPE_RETURN_IF_ERROR(MakeFolder(folder));
  LOUPE_RETURN_IF_ERROR(MakeFolder(base_ + "/scheduler"));
  LOUPE_RETURN_IF_ERROR(WriteSchedulerConfig(base_ + "/scheduler", part.options));
  LOUPE_RETURN_IF_ERROR(WriteModelIndex(base_));
  if (!part.source.from.empty()) {
    LOUPE_RETURN_IF_ERROR(CopyFolder(part.source.from, folder));
    return train::TrainingEnd::kFinished;
  }
  // The scaling factor as it is written: a VAE trained in this run got it after the network was made.
  LOUPE_ASSIGN_OR_RETURN(const models::AutoencoderKLConfig vae_shape,
                         models::AutoencoderKLConfig::Read(base_ + "/vae/config.json"));
  vae_ = models::AutoencoderKL(vae_shape);
  LOUPE_RETURN_IF_ERROR(Load(*vae_, base_ + "/vae" + kDiffusionWeights, device_));
  LOUPE_RETURN_IF_ERROR(
      WriteUNetConfig(folder, part, config_.picture_size / vae_shape.downscale(), text_->config().encoder.hidden_size));
  LOUPE_ASSIGN_OR_RETURN(const models::UNet2DConditionConfig shape,
                         models::UNet2DConditionConfig::Read(folder + "/config.json"));
  unet_ = models::UNet2DConditionModel(shape);
  nn::InitialiseAsTorch(*unet_, StepGenerator(config_.seed, 0, "unet/init"));
  ZeroLastLayers(*unet_, {"conv2", "proj_out", "conv_out"});
  if (!part.source.init_from.empty())
    LOUPE_RETURN_IF_ERROR(Load(*unet_, part.source.init_from + kDiffusionWeights, device_));
  unet_->to(device_);
  UNetStage stage(unet_, MakeUNetData(), part.options, config_.seed, [this](int64_t step) { return LookAtUNet(step); });
  return Train(stage, part.schedule);
}

absl::StatusOr<train::TrainingEnd> Run::ClassDenoiser() {
  const ClassPart& part = config_.dit.present ? config_.dit : config_.diffussm;
  if (!part.present) return train::TrainingEnd::kFinished;
  // The scaling factor as it is written, as for the UNet.
  LOUPE_ASSIGN_OR_RETURN(const models::AutoencoderKLConfig vae_shape,
                         models::AutoencoderKLConfig::Read(base_ + "/vae/config.json"));
  vae_ = models::AutoencoderKL(vae_shape);
  LOUPE_RETURN_IF_ERROR(Load(*vae_, base_ + "/vae" + kDiffusionWeights, device_));
  const ClassPartInputs inputs{
      .folder = base_,
      .sheets = out_ + "/sheets",
      .seed = config_.seed,
      .corpus = &corpus_,
      .pictures = pictures_,
      .vae = vae_,
      .device = device_,
      .encode = [&](ClassData& data) { EncodeViews(part.views, data.latents_scaled, data.latents_spread); },
      .train = [this](train::Objective& objective,
                      const train::NetworkTraining& training) { return Train(objective, training); }};
  return TrainClassPart(part, inputs);
}

absl::StatusOr<std::string> Run::LookAtUNet(int64_t step) {
  torch::NoGradGuard no_grad;
  LOUPE_RETURN_IF_ERROR(WriteHalf(base_ + "/unet" + kDiffusionWeights, *unet_));
  std::vector<data::EmojiItem> pairs;
  for (const data::EmojiItem& item : corpus_.held_out) {
    if (item.held_out == kHeldOutPair) pairs.push_back(item);
  }
  LOUPE_ASSIGN_OR_RETURN(std::string seen, SampleSheet(Sheet("unet", step), Spread(corpus_.training, 30)));
  if (!pairs.empty()) {
    LOUPE_ASSIGN_OR_RETURN(const std::string held_out, SampleSheet(Sheet("unet-held-out", step), Spread(pairs, 30)));
    seen += "; " + held_out;
  }
  return seen;
}

// Samples of the items' captions, the real picture above each.
absl::StatusOr<std::string> Run::SampleSheet(const std::string& sheet, const std::vector<data::EmojiItem>& items) {
  constexpr size_t kRow = 10;
  const size_t count = items.size();
  std::vector<std::string> captions;
  captions.reserve(count);
  for (const data::EmojiItem& item : items) captions.push_back(MainCaption(item));
  const auto n = static_cast<int64_t>(count);
  const auto context = torch::cat({Contexts({""}).expand({n, -1, -1}), Contexts(captions)});
  nn::ContextCache cache;
  const auto predict = [&](const torch::Tensor& latents, int64_t t) {
    return unet_(latents, torch::tensor({t}).to(device_), context, &cache);
  };
  const diffusion::NoiseSchedule schedule = config_.unet.options.noise_schedule();
  auto sampler = sampling::MakeSampler(sampling::SamplerKind::kDpmSolverPlusPlus2M, schedule, config_.unet.sheet_steps);
  const int64_t side = unet_->config().sample_size;
  auto random = StepGenerator(config_.seed, 0, "unet/sheet");
  const auto latents = sampling::RunSampler(*sampler, torch::randn({n, 4, side, side}, random).to(device_),
                                            sampling::WithGuidance(predict, config_.unet.sheet_guidance));
  const auto samples = AsUnit(vae_->DecodeScaled(latents)).clamp(0, 1);
  const auto real = PicturesOf(pictures_, items).to(torch::kFloat32) / 255;
  std::vector<torch::Tensor> rows;
  for (size_t i = 0; i < count; i += kRow) {
    const auto begin = static_cast<int64_t>(i), end = static_cast<int64_t>(std::min(count, i + kRow));
    rows.push_back(real.slice(0, begin, end));
    rows.push_back(samples.slice(0, begin, end));
  }
  LOUPE_RETURN_IF_ERROR(WriteSheet(sheet, torch::cat(rows), std::min<int64_t>(n, kRow)));
  const double error = (samples - real).square().mean().item<double>();
  return fmt::format("{} (mean squared distance of a sample to its caption's picture {:.4f})", sheet, error);
}

absl::Status RunParts(Run& run) {
  LOUPE_RETURN_IF_ERROR(run.Prepare());
  LOUPE_RETURN_IF_ERROR(run.Tokenizer());
  LOUPE_ASSIGN_OR_RETURN(const train::TrainingEnd vae, run.Vae());
  if (vae == train::TrainingEnd::kPaused) return absl::OkStatus();
  LOUPE_ASSIGN_OR_RETURN(const train::TrainingEnd clip, run.Clip());
  if (clip == train::TrainingEnd::kPaused) return absl::OkStatus();
  LOUPE_RETURN_IF_ERROR(run.TextEncoder());
  LOUPE_ASSIGN_OR_RETURN(const train::TrainingEnd unet, run.UNet());
  if (unet == train::TrainingEnd::kPaused) return absl::OkStatus();
  LOUPE_ASSIGN_OR_RETURN(const train::TrainingEnd classes, run.ClassDenoiser());
  LogInfo("{}",
          classes == train::TrainingEnd::kFinished ? "everything is trained" : "paused; the same command goes on");
  return absl::OkStatus();
}

}  // namespace

absl::Status Pretrain(const PretrainConfig& config, const std::string& out, const train::TrainingLimit& limit,
                      torch::Device device) {
  Run run(config, out, limit, device);
  try {
    return RunParts(run);
  } catch (const runtime::NotFinite& e) {
    return absl::FailedPreconditionError(e.what());
  } catch (const c10::Error& e) {
    return absl::InternalError(fmt::format("pretraining: {}", e.what_without_backtrace()));
  }
}

}  // namespace loupe::worker::pretrain
