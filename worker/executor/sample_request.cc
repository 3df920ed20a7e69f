#include "worker/executor/sample_request.h"

#include <torch/types.h>

#include "common/status_macros.h"
#include "fmt/format.h"
#include "spdlog/spdlog.h"
#include "worker/adapters/adapter_file.h"
#include "worker/adapters/method_registry.h"
#include "worker/executor/device.h"
#include "worker/executor/model_store.h"
#include "worker/io/image.h"
#include "worker/layers/tappable.h"
#include "worker/score/picture_sampler.h"
#include "worker/train/random_stream.h"
#include "worker/train/user_error.h"

namespace loupe::worker {
namespace {

std::unique_ptr<Method> AttachAdapter(const std::string& path, LoadedModel<BaseModel>& base, torch::Device device) {
  const AdapterFile file = ValueOrThrow(ReadAdapterFile(path));
  if (file.base_sha256 != base.sha256) {
    spdlog::warn("{} was trained on another base than {}", path, base.model.folder);
  }
  auto method = MakeMethod(TappableBlocksIn(*base.model.unet), {{file.settings, 0}}, device);
  method->Import(0, file.arrays);
  return method;
}

void SampleOrThrow(const SampleRequest& request) {
  const torch::Device device = ValueOrThrow(ParseDevice(request.device));
  if (request.threads > 0) at::set_num_threads(request.threads);
  ModelStore models(device);
  LoadedModel<BaseModel>& base = models.Base(request.base);
  const auto method = request.adapter.empty() ? nullptr : AttachAdapter(request.adapter, base, device);
  SampleOptions options;
  options.sampler = request.sampler == "ddim" ? SamplerKind::kDdim : SamplerKind::kDpmSolverPlusPlus2M;
  options.steps = request.steps;
  options.guidance = request.guidance;
  const torch::Tensor noise = RandomStream(request.seed).Normal(NoiseShape(base.model, request.count));
  ThrowIfError(WritePng(request.out, MakeSheet(SamplePictures(base.model, {request.prompt}, noise, options))));
}

}  // namespace

absl::Status SampleToFile(const SampleRequest& request) {
  try {
    SampleOrThrow(request);
    return absl::OkStatus();
  } catch (const UserError& error) {
    return absl::InvalidArgumentError(error.what());
  } catch (const c10::Error& error) {
    return absl::InvalidArgumentError(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return absl::InternalError(error.what());
  }
}

}  // namespace loupe::worker
