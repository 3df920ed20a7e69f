#include "worker/executor/trial_inputs.h"

#include "common/seed.h"
#include "common/sha256.h"
#include "fmt/format.h"
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

torch::Tensor EncodeInParts(BaseModel& base, const torch::Tensor& pictures) {
  constexpr int64_t kPart = 8;  // bounds the VAE's memory
  std::vector<torch::Tensor> latents;
  for (const torch::Tensor& part : pictures.split(kPart)) latents.push_back(base.EncodePictures(part));
  return torch::cat(latents);
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
  options.batch = settings.Integer("sample.batch");
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
                    TensorFromImages(SamplePictures(base.model, prompt, noise, options, progress)));
  };
  const auto while_waiting = [&] {
    if (progress) progress(0, count);
  };
  const std::string key = Sha256Hex(SamplingKey(base, prompt, count, seed, options));
  const std::string path = ValueOrThrow(cache_.GetOrMake("class-pictures", key, make, while_waiting));
  return ImagesFromTensor(ReadOne(path, kPicturesArray));
}

const DreamBoothInputs& TrialInputs::DreamBooth(const Settings& settings, uint64_t sweep_seed,
                                                const SampleProgress& progress) {
  LoadedModel<BaseModel>& base = models_.Base(settings.Text("base"));
  LoadedModel<ClipScorer>& scorer = models_.Scorer(settings.Text("scorer"));
  const ImageFolder subject =
      ValueOrThrow(ReadImageFolder(settings.Text("task.images"), static_cast<int>(base.model.image_size())));
  const bool flip = settings.Boolean("task.flip");
  const int64_t class_images = settings.Integer("task.class_images");
  const std::string key = fmt::format(
      "{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}", scorer.sha256, subject.content_hash, settings.Text("task.instance_prompt"),
      settings.Real("task.prior_weight"), flip,
      SamplingKey(base, settings.Text("task.class_prompt"), class_images, sweep_seed, SampleOptionsFrom(settings)),
      settings.Text("base"), settings.Text("scorer"));
  const auto found = dreambooth_.find(key);
  if (found != dreambooth_.end()) return found->second;

  DreamBoothInputs inputs;
  inputs.subject_sha256 = subject.content_hash;
  auto data = std::make_shared<DreamBoothData>();
  data->prior_weight = settings.Real("task.prior_weight");
  data->instance = Encode(base.model, subject.images, settings.Text("task.instance_prompt"), flip);
  inputs.references.subject = Embed(settings, subject.images);
  inputs.references.class_text =
      FeaturesFromTensor(scorer.model.EmbedTexts({settings.Text("task.class_prompt")}));
  if (class_images > 0) {
    const std::vector<Image> class_pictures = ClassPictures(settings, sweep_seed, progress);
    data->prior = Encode(base.model, class_pictures, settings.Text("task.class_prompt"), flip);
    inputs.references.class_set = Embed(settings, class_pictures);
  }
  inputs.data = std::move(data);
  return dreambooth_.emplace(key, std::move(inputs)).first->second;
}

const analysis::FeatureMatrix& TrialInputs::BaseEmbeddings(const Settings& settings, const std::string& prompt,
                                                           uint64_t noise_seed, const SampleProgress& progress) {
  LoadedModel<BaseModel>& base = models_.Base(settings.Text("base"));
  const std::string& scorer_sha256 = models_.Scorer(settings.Text("scorer")).sha256;
  const int64_t count = settings.Integer("budget.samples");
  const SampleOptions options = SampleOptionsFrom(settings);
  const std::string key =
      Sha256Hex(fmt::format("{}\n{}", SamplingKey(base, prompt, count, noise_seed, options), scorer_sha256));
  const auto found = base_embeddings_.find(key);
  if (found != base_embeddings_.end()) return found->second;

  const auto make = [&](const std::string& path) {
    const torch::Tensor noise = RandomStream(noise_seed).Normal(NoiseShape(base.model, count));
    const auto images = SamplePictures(base.model, prompt, noise, options, progress);
    return WriteOne(path, kEmbeddingsArray, TensorFromFeatures(Embed(settings, images)));
  };
  const auto while_waiting = [&] {
    if (progress) progress(0, count);
  };
  const std::string path = ValueOrThrow(cache_.GetOrMake("base-embeddings", key, make, while_waiting));
  return base_embeddings_.emplace(key, FeaturesFromTensor(ReadOne(path, kEmbeddingsArray))).first->second;
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

}  // namespace loupe::worker
