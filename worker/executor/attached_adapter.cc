#include "worker/executor/attached_adapter.h"

#include "common/logging.h"
#include "worker/runtime/device.h"
#include "worker/runtime/user_error.h"

namespace loupe::worker::executor {

nn::TuningSites SitesOf(base::BaseModel& base) {
  return nn::SitesIn(base.denoiser->network(), &base.conditioner->network(), base.conditioner->prompts());
}

AttachedAdapter AttachAdapterFile(const std::string& path, base::LoadedModel<base::BaseModel>& base,
                                  torch::Device device) {
  const nn::TuningSites sites = SitesOf(base.model);
  AttachedAdapter attached;
  attached.file = runtime::ValueOrThrow(methods::ReadTunedFile(path, sites));
  if (attached.file.adapter.has_value() && attached.file.adapter->base_sha256 != base.sha256) {
    LogWarning("{} was trained on another base than {}", path, base.model.folder);
  }
  attached.method = methods::MakeMethodOf(attached.file, "", sites, nn::SlotRange{}, device);
  return attached;
}

OpenedBase::OpenedBase(const std::string& folder, const std::string& adapter_path, const std::string& device,
                       int threads)
    : models(runtime::ValueOrThrow(runtime::PrepareDevice(device, threads))), base(models.Base(folder)) {
  if (!adapter_path.empty()) adapter = AttachAdapterFile(adapter_path, base, models.device());
}

}  // namespace loupe::worker::executor
