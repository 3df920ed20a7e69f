#include "worker/tasks/shared_inputs.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <torch/version.h>

#include <algorithm>
#include <utility>

#include "common/sha256.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "worker/runtime/device.h"
#include "worker/runtime/random_stream.h"
#include "worker/tasks/tensor_conversion.h"

namespace loupe::worker::tasks {
namespace {

// Of the untuned base's: so many are kept to be looked at.
constexpr int64_t kMostBasePictures = 64;
// Pictures that go through CLIP together.
constexpr int64_t kClipPart = 64;

constexpr char kPicturesArray[] = "pictures";  // uint8 [n, H, W, 3]
constexpr char kLatentsArray[] = "latents";    // latents_scaled [n, C, h, w]
constexpr char kMirroredArray[] = "mirrored";
constexpr char kContextsArray[] = "contexts";      // [n, text tokens, width]
constexpr char kEmbeddingsArray[] = "embeddings";  // float32 [n, d]

std::string HashOf(const std::vector<io::Image>& images) {
  Sha256 digest;
  for (const io::Image& image : images) {
    digest.Update(fmt::format("{} {}\n", image.width, image.height));
    digest.Update({reinterpret_cast<const char*>(image.rgb.data()), image.rgb.size()});
  }
  return digest.FinishHex();
}

// int64, contiguous, CPU.
std::string HashOf(const torch::Tensor& ids) {
  Sha256 digest;
  digest.Update(fmt::format("{}\n", fmt::join(ids.sizes().begin(), ids.sizes().end(), " ")));
  digest.Update({reinterpret_cast<const char*>(ids.const_data_ptr<int64_t>()), ids.nbytes()});
  return digest.FinishHex();
}

// Everything that the pixels of sampled pictures depend on, the machine's arithmetic aside. A change of the sampling
// code must change the version. Prompts by their token ids: a tokenizer that reads them otherwise makes other pictures.
std::string SamplingKey(const base::LoadedModel<base::BaseModel>& base, const std::vector<std::string>& prompts,
                        int64_t count, uint64_t seed, const sampling::SampleOptions& options) {
  std::string key = fmt::format("sampling-v2\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}", base.sha256,
                                HashOf(base.model.conditioner->Ids(prompts)), count, seed,
                                static_cast<int>(options.sampler), options.steps, options.guidance, options.batch);
  // Keys from before there was such a choice stay what they were.
  if (options.guided_channels != 0) key += fmt::format("\nguided {}", options.guided_channels);
  if (options.precision != torch::kFloat32) key += fmt::format("\n{}", torch::toString(options.precision));
  if (!base.model.size_note.empty()) key += "\n" + base.model.size_note;
  return key;
}

// What rounding depends on: workers that round alike share entries, others do not. Two GPUs of one kind do.
std::string Arithmetic(torch::Device device) {
  return fmt::format("{} {} {} {}", TORCH_VERSION, runtime::DeviceKind(device), at::get_cpu_capability(),
                     at::get_num_threads());
}

torch::Tensor Taken(const train::TensorMap& entry, const char* name, torch::Device device) {
  return entry.at(name).to(device);
}

torch::Tensor EncodeInParts(base::BaseModel& base, const torch::Tensor& pictures) {
  constexpr int64_t kPart = 8;  // bounds the VAE's memory
  std::vector<torch::Tensor> latents;
  for (const torch::Tensor& part : pictures.split(kPart)) latents.push_back(base.EncodePictures(part));
  return torch::cat(latents);
}

torch::Tensor EncodeTextInParts(base::BaseModel& base, const std::vector<std::string>& captions) {
  constexpr size_t kPart = 64;
  std::vector<torch::Tensor> contexts;
  for (size_t first = 0; first < captions.size(); first += kPart) {
    const size_t end = std::min(captions.size(), first + kPart);
    contexts.push_back(base.EncodeText(
        {captions.begin() + static_cast<std::ptrdiff_t>(first), captions.begin() + static_cast<std::ptrdiff_t>(end)}));
  }
  return torch::cat(contexts);
}

}  // namespace

sampling::SampleOptions SampleOptionsFrom(const settings::Settings& settings) {
  sampling::SampleOptions options;
  options.sampler = settings.Text("sample.sampler") == "ddim" ? sampling::SamplerKind::kDdim
                                                              : sampling::SamplerKind::kDpmSolverPlusPlus2M;
  options.steps = settings.Integer("sample.steps");
  options.guidance = settings.Real("sample.guidance");
  options.batch = settings.Integer("sample.chunk");
  if (settings.Text("sample.precision") == "bf16") options.precision = torch::kBFloat16;
  if (settings.Text("sample.precision") == "fp16") options.precision = torch::kHalf;
  return options;
}

SharedInputs::SharedInputs(base::ModelStore& models, TensorCache cache)
    : models_(models), cache_(std::move(cache)), arithmetic_(Arithmetic(models.device())) {}

train::TensorMap SharedInputs::Kept(const std::string& kind, const std::string& key,
                                    const std::function<train::TensorMap()>& make,
                                    const sampling::SampleProgress& progress) const {
  const auto while_waiting = [&] {
    if (progress) progress(0, 0);
  };
  return cache_.GetOrMake(kind, fmt::format("{}\n{}", arithmetic_, key), make, while_waiting);
}

std::vector<std::string> SharedInputs::CutOffs(const settings::Settings& settings,
                                               const std::vector<std::string>& prompts) {
  std::vector<std::string> notes;
  for (const std::string& prompt : prompts) {
    std::string cut = Base(settings).conditioner->DescribeCutOff(prompt);
    if (!cut.empty()) notes.push_back(std::move(cut));
  }
  return notes;
}

std::vector<io::Image> SharedInputs::SampledPictures(const settings::Settings& settings, const std::string& prompt,
                                                     int64_t count, uint64_t seed,
                                                     const sampling::SampleProgress& progress) {
  base::LoadedModel<base::BaseModel>& base = models_.Base(settings);
  const sampling::SampleOptions options = SampleOptionsFrom(settings);
  const PictureOrder order{.prompts = {prompt}, .noise_seed = seed, .drawn = count, .count = count};
  const auto make = [&]() -> train::TensorMap {
    return {{kPicturesArray, TensorFromImages(Sample(settings, order, progress))}};
  };
  const auto entry = Kept("class-pictures", SamplingKey(base, {prompt}, count, seed, options), make, progress);
  return ImagesFromTensor(entry.at(kPicturesArray));
}

base::Condition SharedInputs::Contexts(const settings::Settings& settings, const std::vector<std::string>& captions) {
  base::LoadedModel<base::BaseModel>& base = models_.Base(settings);
  const std::string key = fmt::format("text-v2\n{}\n{}", base.sha256, HashOf(base.model.conditioner->Ids(captions)));
  const auto make = [&]() -> train::TensorMap { return {{kContextsArray, EncodeTextInParts(base.model, captions)}}; };
  return Taken(Kept("text", key, make, {}), kContextsArray, models_.device());
}

EncodedPictures SharedInputs::Latents(const settings::Settings& settings, const std::vector<io::Image>& images,
                                      const sampling::SampleProgress& progress) {
  base::LoadedModel<base::BaseModel>& base = models_.Base(settings);
  const bool flip = settings.Boolean("task.flip");
  const auto make = [&] {
    const torch::Tensor pictures = PicturesFromImages(images);
    train::TensorMap arrays = {{kLatentsArray, EncodeInParts(base.model, pictures)}};
    if (flip) arrays[kMirroredArray] = EncodeInParts(base.model, pictures.flip({3}));
    return arrays;
  };
  const auto entry =
      Kept("latents", fmt::format("latents-v2\n{}\n{}\n{}", base.sha256, HashOf(images), flip), make, progress);
  EncodedPictures encoded;
  encoded.latents = Taken(entry, kLatentsArray, models_.device());
  if (flip) encoded.mirrored = Taken(entry, kMirroredArray, models_.device());
  return encoded;
}

score::PictureFeatures SharedInputs::CachedFeatures(const settings::Settings& settings, const std::string& kind,
                                                    const std::string& pictures_key,
                                                    const std::function<std::vector<io::Image>()>& pictures,
                                                    const sampling::SampleProgress& progress) {
  std::string key = fmt::format("features-v2\n{}\n{}", pictures_key, models_.Scorer(settings.Text("scorer")).sha256);
  for (const base::PictureNetworkKind& kind : base::PictureNetworkKinds()) {
    const base::LoadedModel<base::PictureNetwork>* network = models_.Network(kind, settings);
    if (network == nullptr) continue;
    key += fmt::format("\n{} {}", kind.name, network->sha256);
    if (!kind.variant_setting.empty()) key += " " + settings.Text(kind.variant_setting);
  }
  const auto make = [&] {
    const score::PictureFeatures features = Features(settings, pictures());
    train::TensorMap arrays = {{kEmbeddingsArray, TensorFromFeatures(features.clip)}};
    for (const auto& [name, rows] : features.others) arrays[name] = TensorFromFeatures(rows);
    return arrays;
  };
  const train::TensorMap entry = Kept(kind, key, make, progress);
  score::PictureFeatures features;
  for (const auto& [name, rows] : entry) {
    (name == kEmbeddingsArray ? features.clip : features.others[name]) = FeaturesFromTensor(rows);
  }
  return features;
}

score::PictureFeatures SharedInputs::DataFeatures(const settings::Settings& settings, const data::ImageFolder& folder,
                                                  const sampling::SampleProgress& progress) {
  const auto pictures = [&] { return folder.images; };
  return CachedFeatures(settings, "data-embeddings", HashOf(folder.images), pictures, progress);
}

std::vector<io::Image> SharedInputs::BasePictures(const settings::Settings& settings,
                                                  const std::vector<std::string>& prompts, int64_t count,
                                                  uint64_t noise_seed, const sampling::SampleProgress& progress) {
  base::LoadedModel<base::BaseModel>& base = models_.Base(settings);
  const sampling::SampleOptions options = SampleOptionsFrom(settings);
  const int64_t kept = std::min(count, kMostBasePictures);
  const auto make = [&]() -> train::TensorMap {
    // The noise of the first of `count` is not that of so many drawn alone.
    const PictureOrder order{.prompts = {prompts.begin(), prompts.size() == 1 ? prompts.end() : prompts.begin() + kept},
                             .noise_seed = noise_seed,
                             .drawn = count,
                             .count = kept};
    return {{kPicturesArray, TensorFromImages(Sample(settings, order, progress))}};
  };
  std::string key = SamplingKey(base, prompts, count, noise_seed, options);
  if (kept < count) key += fmt::format("\nthe first {}", kept);
  return ImagesFromTensor(Kept("base-pictures", key, make, progress).at(kPicturesArray));
}

score::PictureFeatures SharedInputs::BaseFeatures(const settings::Settings& settings,
                                                  const std::vector<std::string>& prompts, int64_t count,
                                                  uint64_t noise_seed, const sampling::SampleProgress& progress) {
  base::LoadedModel<base::BaseModel>& base = models_.Base(settings);
  const sampling::SampleOptions options = SampleOptionsFrom(settings);
  const auto pictures = [&] {
    // Sampled once, for the features and for the eye.
    if (count <= kMostBasePictures) return BasePictures(settings, prompts, count, noise_seed, progress);
    return Sample(settings, {.prompts = prompts, .noise_seed = noise_seed, .drawn = count, .count = count}, progress);
  };
  const std::string key = SamplingKey(base, prompts, count, noise_seed, options);
  return CachedFeatures(settings, "base-embeddings", key, pictures, progress);
}

std::vector<io::Image> SharedInputs::Sample(const settings::Settings& settings, const PictureOrder& order,
                                            const sampling::SampleProgress& progress) {
  return help_ != nullptr ? help_->Sample(order, progress) : SampleHere(settings, order, 0, order.count, progress);
}

namespace {

torch::Tensor NoiseOf(const base::BaseModel& base, const PictureOrder& order, int64_t first, int64_t count) {
  return runtime::RandomStream(order.noise_seed)
      .Normal(sampling::NoiseShape(base, order.drawn))
      .narrow(0, first, count);
}

}  // namespace

std::vector<std::vector<io::Image>> SharedInputs::SampleSlots(const settings::Settings& settings,
                                                              const std::vector<PictureOrder>& orders,
                                                              const sampling::SampleProgress& progress) {
  base::BaseModel& base = Base(settings);
  const sampling::SampleOptions options = SampleOptionsFrom(settings);
  std::vector<sampling::SlotPictures> slots;
  slots.reserve(orders.size());
  for (const PictureOrder& order : orders) {
    slots.push_back({order.prompts, NoiseOf(base, order, 0, order.count)});
  }
  std::vector<std::vector<io::Image>> pictures;
  for (const torch::Tensor& latents : sampling::SampleSlots(base, slots, options, progress)) {
    pictures.push_back(sampling::DecodePictures(base, latents, options));
  }
  return pictures;
}

std::vector<io::Image> SharedInputs::SampleHere(const settings::Settings& settings, const PictureOrder& order,
                                                int64_t first, int64_t count,
                                                const sampling::SampleProgress& progress) {
  base::BaseModel& base = Base(settings);
  const torch::Tensor noise = NoiseOf(base, order, first, count);
  std::vector<std::string> prompts = order.prompts;
  if (prompts.size() > 1) prompts = {order.prompts.begin() + first, order.prompts.begin() + first + count};
  return sampling::SamplePictures(base, prompts, noise, SampleOptionsFrom(settings), progress);
}

score::PictureFeatures SharedInputs::Features(const settings::Settings& settings,
                                              const std::vector<io::Image>& images) {
  score::PictureFeatures features;
  features.clip = Embed(settings, images);
  for (const base::PictureNetworkKind& kind : base::PictureNetworkKinds()) {
    if (settings.Has(kind.setting)) features.others[kind.name] = EmbedBy(settings, kind.name, images);
  }
  return features;
}

analysis::metrics::FeatureMatrix SharedInputs::Embed(const settings::Settings& settings,
                                                     const std::vector<io::Image>& images) {
  return EmbedBy(settings, kScorerNetwork, images);
}

analysis::metrics::FeatureMatrix SharedInputs::EmbedBy(const settings::Settings& settings, const std::string& network,
                                                       const std::vector<io::Image>& images) {
  return FeaturesFromTensor(help_ != nullptr ? help_->Embed(network, images) : EmbedHere(settings, network, images));
}

int64_t SharedInputs::PartOf(const std::string& network) {
  return network == kScorerNetwork ? kClipPart : base::PictureNetworkKindOf(network).part;
}

torch::Tensor SharedInputs::EmbedHere(const settings::Settings& settings, const std::string& network,
                                      const std::vector<io::Image>& images) {
  if (network != kScorerNetwork) {
    return models_.Network(base::PictureNetworkKindOf(network), settings)->model.embed(images);
  }
  base::ClipScorer& scorer = models_.Scorer(settings.Text("scorer")).model;
  std::vector<torch::Tensor> parts;
  for (auto first = images.begin(); first != images.end();) {
    const auto end = first + std::min<std::ptrdiff_t>(kClipPart, images.end() - first);
    parts.push_back(scorer.EmbedImages({first, end}));
    first = end;
  }
  return torch::cat(parts);
}

analysis::metrics::FeatureMatrix SharedInputs::EmbedTexts(const settings::Settings& settings,
                                                          const std::vector<std::string>& texts) {
  return FeaturesFromTensor(models_.Scorer(settings.Text("scorer")).model.EmbedTexts(texts));
}

}  // namespace loupe::worker::tasks
