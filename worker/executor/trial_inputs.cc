#include "worker/executor/trial_inputs.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "common/seed.h"
#include "common/sha256.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "worker/data/captioned_folder.h"
#include "worker/data/image_folder.h"
#include "worker/executor/tensor_conversion.h"
#include "worker/io/safetensors.h"
#include "worker/models/weights.h"
#include "worker/train/random_stream.h"
#include "worker/train/user_error.h"

namespace loupe::worker {
namespace {

constexpr char kPicturesArray[] = "pictures";      // uint8 [n, H, W, 3]
constexpr char kEmbeddingsArray[] = "embeddings";  // float32 [n, d]
constexpr char kInceptionArray[] = "inception";

// Everything that the pixels of sampled pictures depend on. A change of the sampling code must change the version.
std::string SamplingKey(const LoadedModel<BaseModel>& base, const std::string& prompt, int64_t count, uint64_t seed,
                        const SampleOptions& options) {
  return fmt::format("sampling-v1\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}", base.sha256, prompt, count, seed,
                     static_cast<int>(options.sampler), options.steps, options.guidance, options.batch);
}

absl::Status WriteOne(const std::string& path, const std::string& name, const torch::Tensor& value) {
  return WriteSafetensors(path, ToArrays({{name, value}}).views, {});
}

torch::Tensor ReadOne(const std::string& path, const std::string& name) {
  const SafetensorsFile file = ValueOrThrow(SafetensorsFile::Open(path));
  const auto found = file.arrays().find(name);
  if (found == file.arrays().end()) {
    throw UserError(fmt::format("{}: a cache file without '{}'; delete it", path, name));
  }
  return ToTensor(found->second);
}

// Names, sizes and times of change of a folder's files: tells a folder that was edited since without reading it. Empty when
// it cannot be listed (reading it will say why).
std::string StampOf(const std::string& folder) {
  namespace fs = std::filesystem;
  std::error_code error;
  std::set<std::string> lines;
  for (fs::recursive_directory_iterator entries(folder, error), end; !error && entries != end;
       entries.increment(error)) {
    if (!entries->is_regular_file(error)) continue;
    lines.insert(fmt::format("{} {} {}", entries->path().string(), entries->file_size(error),
                             entries->last_write_time(error).time_since_epoch().count()));
  }
  return fmt::format("{}", fmt::join(lines, "\n"));
}

torch::Tensor EncodeInParts(BaseModel& base, const torch::Tensor& pictures) {
  constexpr int64_t kPart = 8;  // bounds the VAE's memory
  std::vector<torch::Tensor> latents;
  for (const torch::Tensor& part : pictures.split(kPart)) latents.push_back(base.EncodePictures(part));
  return torch::cat(latents);
}

torch::Tensor EncodeTextInParts(BaseModel& base, const std::vector<std::string>& captions) {
  constexpr size_t kPart = 64;
  std::vector<torch::Tensor> contexts;
  for (size_t first = 0; first < captions.size(); first += kPart) {
    const size_t end = std::min(captions.size(), first + kPart);
    contexts.push_back(base.EncodeText({captions.begin() + static_cast<std::ptrdiff_t>(first),
                                        captions.begin() + static_cast<std::ptrdiff_t>(end)}));
  }
  return torch::cat(contexts);
}

EncodedPictures Encode(BaseModel& base, const std::vector<Image>& images, const std::string& caption, bool flip) {
  const torch::Tensor pictures = PicturesFromImages(images);
  EncodedPictures encoded;
  encoded.latents = EncodeInParts(base, pictures);
  if (flip) encoded.mirrored = EncodeInParts(base, pictures.flip({3}));
  encoded.context = base.EncodeText({caption});
  return encoded;
}

}  // namespace

SampleOptions SampleOptionsFrom(const Settings& settings) {
  SampleOptions options;
  options.sampler =
      settings.Text("sample.sampler") == "ddim" ? SamplerKind::kDdim : SamplerKind::kDpmSolverPlusPlus2M;
  options.steps = settings.Integer("sample.steps");
  options.guidance = settings.Real("sample.guidance");
  options.batch = settings.Integer("sample.chunk");
  return options;
}

std::vector<Image> TrialInputs::ClassPictures(const Settings& settings, uint64_t sweep_seed,
                                              const SampleProgress& progress) {
  LoadedModel<BaseModel>& base = models_.Base(settings.Text("base"));
  const std::string& prompt = settings.Text("task.class_prompt");
  const int64_t count = settings.Integer("task.class_images");
  const uint64_t seed = DeriveSeed(sweep_seed, 0, "class-pictures");
  const SampleOptions options = SampleOptionsFrom(settings);
  const auto make = [&](const std::string& path) {
    const torch::Tensor noise = RandomStream(seed).Normal(NoiseShape(base.model, count));
    return WriteOne(path, kPicturesArray,
                    TensorFromImages(SamplePictures(base.model, {prompt}, noise, options, progress)));
  };
  const auto while_waiting = [&] {
    if (progress) progress(0, count);
  };
  const std::string key = Sha256Hex(SamplingKey(base, prompt, count, seed, options));
  const std::string path = ValueOrThrow(cache_.GetOrMake("class-pictures", key, make, while_waiting));
  return ImagesFromTensor(ReadOne(path, kPicturesArray));
}

TaskInputs TrialInputs::MakeDreamBooth(const Settings& settings, uint64_t sweep_seed,
                                       const SampleProgress& progress) {
  LoadedModel<BaseModel>& base = models_.Base(settings.Text("base"));
  const ImageFolder subject =
      ValueOrThrow(ReadImageFolder(settings.Text("task.images"), static_cast<int>(base.model.image_size())));
  const bool flip = settings.Boolean("task.flip");
  TaskInputs inputs;
  inputs.data_sha256 = subject.content_hash;
  auto data = std::make_shared<DreamBoothData>();
  data->prior_weight = settings.Real("task.prior_weight");
  data->instance = Encode(base.model, subject.images, settings.Text("task.instance_prompt"), flip);
  PictureFeatures features = Features(settings, subject.images);
  inputs.references.subject = std::move(features.clip);
  inputs.references.inception_subject = std::move(features.inception);
  inputs.references.texts = EmbedTexts(settings, {settings.Text("task.class_prompt")});
  if (settings.Integer("task.class_images") > 0) {
    const std::vector<Image> class_pictures = ClassPictures(settings, sweep_seed, progress);
    data->prior = Encode(base.model, class_pictures, settings.Text("task.class_prompt"), flip);
    inputs.references.class_set = Embed(settings, class_pictures);
  }
  inputs.dreambooth = std::move(data);
  return inputs;
}

TaskInputs TrialInputs::MakeFineTuning(const Settings& settings) {
  LoadedModel<BaseModel>& base = models_.Base(settings.Text("base"));
  const CaptionedFolder folder =
      ValueOrThrow(ReadCaptionedFolder(settings.Text("task.images"), static_cast<int>(base.model.image_size())));
  TaskInputs inputs;
  inputs.captions = folder.captions;
  inputs.data_sha256 = Sha256Hex(fmt::format("{}\n{}", folder.pictures.content_hash, fmt::join(folder.captions, "\n")));
  auto data = std::make_shared<CaptionedPictures>();
  const torch::Tensor pictures = PicturesFromImages(folder.pictures.images);
  data->latents = EncodeInParts(base.model, pictures);
  if (settings.Boolean("task.flip")) data->mirrored = EncodeInParts(base.model, pictures.flip({3}));
  std::vector<std::string> different;
  std::vector<int64_t> caption_of;
  std::map<std::string, int64_t> row_of;
  for (const std::string& caption : folder.captions) {
    const auto [found, is_new] = row_of.emplace(caption, static_cast<int64_t>(different.size()));
    if (is_new) different.push_back(caption);
    caption_of.push_back(found->second);
  }
  data->contexts = EncodeTextInParts(base.model, different);
  data->caption_of = torch::tensor(caption_of, torch::kInt64).to(models_.device());
  data->empty_context = base.model.EncodeText({""});
  data->caption_dropout = settings.Real("task.caption_dropout");
  inputs.captioned = std::move(data);
  PictureFeatures features = Features(settings, folder.pictures.images);
  inputs.references.subject = std::move(features.clip);
  inputs.references.inception_subject = std::move(features.inception);
  return inputs;
}

const TaskInputs& TrialInputs::Task(const Settings& settings, uint64_t sweep_seed, const SampleProgress& progress) {
  // By the settings that the inputs depend on, and by what the folder looks like from outside.
  std::string key = fmt::format("{}\n{}\n", sweep_seed, StampOf(settings.Text("task.images")));
  for (const auto& [name, value] : settings.values()) {
    if (name == "base" || name == "scorer" || name.starts_with("task.") || name.starts_with("sample.") ||
        name.starts_with("score.inception")) {
      key += fmt::format("{}={}\n", name, value);
    }
  }
  const auto found = tasks_.find(key);
  if (found != tasks_.end()) return found->second;
  TaskInputs inputs = settings.Text("task.kind") == "finetune" ? MakeFineTuning(settings)
                                                               : MakeDreamBooth(settings, sweep_seed, progress);
  return tasks_.emplace(key, std::move(inputs)).first->second;
}

// Null when the settings name none.
LoadedModel<InceptionScorer>* TrialInputs::InceptionOf(const Settings& settings) {
  if (!settings.Has("score.inception")) return nullptr;
  const bool clean = settings.Text("score.inception_resize") == "clean-fid";
  return &models_.InceptionNetwork(settings.Text("score.inception"),
                                   clean ? InceptionResize::kCleanFid : InceptionResize::kPytorchFid);
}

const PictureFeatures& TrialInputs::BaseFeatures(const Settings& settings, const std::vector<std::string>& prompts,
                                                 uint64_t noise_seed, const SampleProgress& progress) {
  LoadedModel<BaseModel>& base = models_.Base(settings.Text("base"));
  const LoadedModel<InceptionScorer>* inception = InceptionOf(settings);
  const std::string& scorer_sha256 = models_.Scorer(settings.Text("scorer")).sha256;
  const int64_t count = settings.Integer("budget.samples");
  const SampleOptions options = SampleOptionsFrom(settings);
  std::string what = fmt::format(
      "{}\n{}", SamplingKey(base, fmt::format("{}", fmt::join(prompts, "\n")), count, noise_seed, options), scorer_sha256);
  if (inception != nullptr) what += fmt::format("\n{}\n{}", inception->sha256, settings.Text("score.inception_resize"));
  const std::string key = Sha256Hex(what);
  const auto found = base_features_.find(key);
  if (found != base_features_.end()) return found->second;

  const auto make = [&](const std::string& path) {
    const torch::Tensor noise = RandomStream(noise_seed).Normal(NoiseShape(base.model, count));
    const PictureFeatures features = Features(settings, SamplePictures(base.model, prompts, noise, options, progress));
    std::map<std::string, torch::Tensor> arrays = {{kEmbeddingsArray, TensorFromFeatures(features.clip)}};
    if (inception != nullptr) arrays[kInceptionArray] = TensorFromFeatures(features.inception);
    return WriteSafetensors(path, ToArrays(arrays).views, {});
  };
  const auto while_waiting = [&] {
    if (progress) progress(0, count);
  };
  const std::string path = ValueOrThrow(cache_.GetOrMake("base-embeddings", key, make, while_waiting));
  PictureFeatures features;
  features.clip = FeaturesFromTensor(ReadOne(path, kEmbeddingsArray));
  if (inception != nullptr) features.inception = FeaturesFromTensor(ReadOne(path, kInceptionArray));
  return base_features_.emplace(key, std::move(features)).first->second;
}

PictureFeatures TrialInputs::Features(const Settings& settings, const std::vector<Image>& images) {
  PictureFeatures features;
  features.clip = Embed(settings, images);
  if (LoadedModel<InceptionScorer>* inception = InceptionOf(settings); inception != nullptr) {
    features.inception = FeaturesFromTensor(inception->model.EmbedImages(images));
  }
  return features;
}

analysis::FeatureMatrix TrialInputs::Embed(const Settings& settings, const std::vector<Image>& images) {
  constexpr size_t kPart = 64;
  ClipScorer& scorer = models_.Scorer(settings.Text("scorer")).model;
  std::vector<torch::Tensor> parts;
  for (size_t first = 0; first < images.size(); first += kPart) {
    const auto end = images.begin() + static_cast<std::ptrdiff_t>(std::min(images.size(), first + kPart));
    parts.push_back(scorer.EmbedImages({images.begin() + static_cast<std::ptrdiff_t>(first), end}));
  }
  return FeaturesFromTensor(torch::cat(parts));
}

analysis::FeatureMatrix TrialInputs::EmbedTexts(const Settings& settings, const std::vector<std::string>& texts) {
  return FeaturesFromTensor(models_.Scorer(settings.Text("scorer")).model.EmbedTexts(texts));
}

}  // namespace loupe::worker
