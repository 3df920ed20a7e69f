#include "worker/executor/sample_request.h"

#include <torch/types.h>

#include "worker/executor/attached_adapter.h"
#include "worker/executor/device.h"
#include "worker/executor/failure_status.h"
#include "worker/executor/model_store.h"
#include "worker/io/image.h"
#include "worker/score/picture_sampler.h"
#include "worker/train/random_stream.h"
#include "worker/train/user_error.h"

namespace loupe::worker {
namespace {

void SampleOrThrow(const SampleRequest& request) {
  const torch::Device device = ValueOrThrow(ParseDevice(request.device));
  if (request.threads > 0) at::set_num_threads(request.threads);
  ModelStore models(device);
  LoadedModel<BaseModel>& base = models.Base(request.base);
  AttachedAdapter adapter;
  if (!request.adapter.empty()) adapter = AttachAdapterFile(request.adapter, base, device);
  SampleOptions options;
  options.sampler = request.sampler == "ddim" ? SamplerKind::kDdim : SamplerKind::kDpmSolverPlusPlus2M;
  options.steps = request.steps;
  options.guidance = request.guidance;
  const torch::Tensor noise = RandomStream(request.seed).Normal(NoiseShape(base.model, request.count));
  ThrowIfError(WritePng(request.out, MakeSheet(SamplePictures(base.model, {request.prompt}, noise, options))));
}

}  // namespace

absl::Status SampleToFile(const SampleRequest& request) {
  return StatusOfThrown([&] { SampleOrThrow(request); });
}

}  // namespace loupe::worker
