#include "worker/executor/noise_difference_request.h"

#include <torch/types.h>

#include <algorithm>

#include "common/logging.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/data/caption_text.h"
#include "worker/data/image_folder.h"
#include "worker/executor/attached_adapter.h"
#include "worker/executor/failure_status.h"
#include "worker/io/image.h"
#include "worker/runtime/random_stream.h"
#include "worker/sampling/picture_sampler.h"
#include "worker/sampling/prediction_difference.h"
#include "worker/tasks/tensor_conversion.h"

namespace loupe::worker::executor {
namespace {

// `given`, or the adapter's own setting.
std::string PromptOr(const std::string& given, const AttachedAdapter& adapter, const char* flag, const char* setting) {
  if (!given.empty()) return runtime::ValueOrThrow(data::CaptionText(given, flag));
  const auto& trial = adapter.file.adapter;
  if (trial.has_value() && trial->settings.Has(setting)) return trial->settings.Text(setting);
  throw runtime::UserError(
      fmt::format("{} is missing: give it, or an adapter that was trained with {}", flag, setting));
}

std::vector<io::Image> ClassPicturesOf(const NoiseDifferenceRequest& request, base::BaseModel& base,
                                       const std::string& prompt) {
  if (!request.images.empty()) {
    auto folder = runtime::ValueOrThrow(data::ReadImageFolder(request.images, static_cast<int>(base.image_size())));
    for (const std::string& note : folder.notes) LogWarning("{}", note);
    if (folder.images.size() > sampling::kDifferencePictures) folder.images.resize(sampling::kDifferencePictures);
    return std::move(folder.images);
  }
  sampling::SampleOptions options;
  options.steps = request.steps;
  options.guidance = request.guidance;
  const torch::Tensor noise =
      runtime::RandomStream(request.seed).Normal(sampling::NoiseShape(base, sampling::kDifferencePictures));
  return sampling::SamplePictures(base, {prompt}, noise, options);
}

std::vector<double> MeanPerTimestep(const torch::Tensor& difference) {
  std::vector<double> means;
  for (int64_t t = 0; t < difference.size(0); ++t) means.push_back(difference[t].abs().mean().item<double>());
  return means;
}

NoiseDifference WriteOrThrow(const NoiseDifferenceRequest& request) {
  OpenedBase opened(request.base, request.adapter, request.device, request.threads);
  base::BaseModel& base = opened.base.model;
  const AttachedAdapter& adapter = opened.adapter;
  const std::string prompt = PromptOr(request.prompt, adapter, "--prompt", "task.instance_prompt");
  const std::string class_prompt = PromptOr(request.class_prompt, adapter, "--class-prompt", "task.class_prompt");

  for (const std::string& text : {prompt, class_prompt}) {
    const std::string cut = base.conditioner->DescribeCutOff(text);
    if (!cut.empty()) LogWarning("{}", cut);
  }
  NoiseDifference result;
  result.timesteps = sampling::DifferenceTimesteps(base);
  std::vector<torch::Tensor> shown;
  std::vector<io::Image> pictures;
  torch::Tensor latents;
  {
    const methods::MethodDisabled off(adapter.method.get());
    pictures = ClassPicturesOf(request, base, class_prompt);
    latents = base.EncodePictures(tasks::PicturesFromImages(pictures));
    if (adapter.method != nullptr) {
      shown.push_back(sampling::PredictionDifference(base, {latents, request.seed, prompt, class_prompt}));
      result.untuned = MeanPerTimestep(shown.front());
    }
  }
  shown.insert(shown.begin(), sampling::PredictionDifference(base, {latents, request.seed, prompt, class_prompt}));
  result.tuned = MeanPerTimestep(shown.front());
  for (const torch::Tensor& difference : shown)
    result.full_scale = std::max(result.full_scale, sampling::DifferenceScale(difference));
  runtime::ThrowIfError(io::WritePng(request.out, sampling::DifferenceSheet(pictures, shown, result.full_scale)));
  return result;
}

}  // namespace

absl::StatusOr<NoiseDifference> WriteNoiseDifference(const NoiseDifferenceRequest& request) {
  NoiseDifference result;
  LOUPE_RETURN_IF_ERROR(StatusOfThrown([&] { result = WriteOrThrow(request); }));
  return result;
}

}  // namespace loupe::worker::executor
