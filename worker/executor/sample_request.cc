#include "worker/executor/sample_request.h"

#include <torch/types.h>

#include "common/logging.h"
#include "fmt/format.h"
#include "worker/data/caption_text.h"
#include "worker/executor/attached_adapter.h"
#include "worker/executor/failure_status.h"
#include "worker/io/image.h"
#include "worker/runtime/random_stream.h"
#include "worker/runtime/user_error.h"
#include "worker/sampling/picture_sampler.h"

namespace loupe::worker::executor {
namespace {

void SampleOrThrow(const SampleRequest& request) {
  OpenedBase opened(request.base, request.adapter, request.device, request.threads);
  base::BaseModel& base = opened.base.model;
  const std::string prompt = runtime::ValueOrThrow(data::CaptionText(request.prompt, "--prompt"));
  const std::string cut = base.conditioner->DescribeCutOff(prompt);
  if (!cut.empty()) LogWarning("--prompt: {}", cut);
  sampling::SampleOptions options;
  options.sampler =
      request.sampler == "ddim" ? sampling::SamplerKind::kDdim : sampling::SamplerKind::kDpmSolverPlusPlus2M;
  options.steps = request.steps;
  options.guidance = request.guidance;
  const torch::Tensor noise = runtime::RandomStream(request.seed).Normal(sampling::NoiseShape(base, request.count));
  std::vector<io::Image> images;
  try {
    images = sampling::SamplePictures(base, {prompt}, noise, options);
  } catch (const runtime::NotFinite& error) {
    if (request.adapter.empty()) throw;
    throw runtime::NotFinite(fmt::format("{}, with the adapter {}", error.what(), request.adapter));
  }
  runtime::ThrowIfError(io::WritePng(request.out, sampling::MakeSheet(images)));
}

}  // namespace

absl::Status SampleToFile(const SampleRequest& request) {
  return StatusOfThrown([&] { SampleOrThrow(request); });
}

}  // namespace loupe::worker::executor
