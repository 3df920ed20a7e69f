#include "worker/executor/attached_adapter.h"

#include <utility>

#include "spdlog/spdlog.h"
#include "worker/methods/method_registry.h"
#include "worker/nn/tuning_sites.h"
#include "worker/runtime/device.h"
#include "worker/runtime/user_error.h"

namespace loupe::worker {
AttachedAdapter AttachAdapterFile(const std::string& path, LoadedModel<BaseModel>& base, torch::Device device) {
  AdapterFile file = ValueOrThrow(ReadAdapterFile(path));
  if (file.base_sha256 != base.sha256) {
    spdlog::warn("{} was trained on another base than {}", path, base.model.folder);
  }
  auto method = MakeMethod(SitesIn(*base.model.unet, base.model.text_encoder.get()), {{file.settings, 0}}, device);
  method->Import(0, file.arrays);
  return {std::move(file), std::move(method)};
}

OpenedBase::OpenedBase(const std::string& folder, const std::string& adapter_path, const std::string& device,
                       int threads)
    : models(ValueOrThrow(PrepareDevice(device, threads))), base(models.Base(folder)) {
  if (!adapter_path.empty()) adapter = AttachAdapterFile(adapter_path, base, models.device());
}

}  // namespace loupe::worker
