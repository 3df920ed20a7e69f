#include "worker/executor/sample_request.h"

#include <torch/types.h>

#include "worker/executor/attached_adapter.h"
#include "worker/executor/failure_status.h"
#include "worker/io/image.h"
#include "worker/score/picture_sampler.h"
#include "worker/train/random_stream.h"
#include "worker/train/user_error.h"

namespace loupe::worker {
namespace {

void SampleOrThrow(const SampleRequest& request) {
  OpenedBase opened(request.base, request.adapter, request.device, request.threads);
  BaseModel& base = opened.base.model;
  SampleOptions options;
  options.sampler = request.sampler == "ddim" ? SamplerKind::kDdim : SamplerKind::kDpmSolverPlusPlus2M;
  options.steps = request.steps;
  options.guidance = request.guidance;
  const torch::Tensor noise = RandomStream(request.seed).Normal(NoiseShape(base, request.count));
  ThrowIfError(WritePng(request.out, MakeSheet(SamplePictures(base, {request.prompt}, noise, options))));
}

}  // namespace

absl::Status SampleToFile(const SampleRequest& request) {
  return StatusOfThrown([&] { SampleOrThrow(request); });
}

}  // namespace loupe::worker
