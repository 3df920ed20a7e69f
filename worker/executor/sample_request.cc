#include "worker/executor/sample_request.h"

#include <torch/types.h>

#include "fmt/format.h"
#include "spdlog/spdlog.h"
#include "worker/data/caption_text.h"
#include "worker/executor/attached_adapter.h"
#include "worker/executor/failure_status.h"
#include "worker/io/image.h"
#include "worker/runtime/random_stream.h"
#include "worker/runtime/user_error.h"
#include "worker/sampling/picture_sampler.h"

namespace loupe::worker {
namespace {

void SampleOrThrow(const SampleRequest& request) {
  OpenedBase opened(request.base, request.adapter, request.device, request.threads);
  BaseModel& base = opened.base.model;
  const std::string prompt = ValueOrThrow(CaptionText(request.prompt, "--prompt"));
  const std::string cut = base.conditioner->DescribeCutOff(prompt);
  if (!cut.empty()) spdlog::warn("--prompt: {}", cut);
  SampleOptions options;
  options.sampler = request.sampler == "ddim" ? SamplerKind::kDdim : SamplerKind::kDpmSolverPlusPlus2M;
  options.steps = request.steps;
  options.guidance = request.guidance;
  const torch::Tensor noise = RandomStream(request.seed).Normal(NoiseShape(base, request.count));
  std::vector<Image> images;
  try {
    images = SamplePictures(base, {prompt}, noise, options);
  } catch (const NotFinite& error) {
    if (request.adapter.empty()) throw;
    throw NotFinite(fmt::format("{}, with the adapter {}", error.what(), request.adapter));
  }
  ThrowIfError(WritePng(request.out, MakeSheet(images)));
}

}  // namespace

absl::Status SampleToFile(const SampleRequest& request) {
  return StatusOfThrown([&] { SampleOrThrow(request); });
}

}  // namespace loupe::worker
