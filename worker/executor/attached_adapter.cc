#include "worker/executor/attached_adapter.h"

#include <utility>

#include "spdlog/spdlog.h"
#include "worker/methods/lora.h"
#include "worker/nn/tuning_sites.h"
#include "worker/runtime/device.h"
#include "worker/runtime/user_error.h"

namespace loupe::worker {

AttachedAdapter AttachAdapterFile(const std::string& path, LoadedModel<BaseModel>& base, torch::Device device) {
  const TuningSites sites = SitesIn(*base.model.unet, base.model.text_encoder.get());
  AttachedAdapter attached;
  if (!IsAdapterFile(path)) {
    attached.lora = ValueOrThrow(ReadLora(path, sites));
    attached.traits = FindMethod("lora");
    attached.method = MakeLoraOf(*attached.lora, sites, device);
    return attached;
  }
  attached.file = ValueOrThrow(ReadAdapterFile(path));
  if (attached.file.base_sha256 != base.sha256) {
    spdlog::warn("{} was trained on another base than {}", path, base.model.folder);
  }
  attached.traits = &MethodOf(attached.file.settings);
  attached.method = MakeMethod(sites, {{attached.file.settings, 0}}, device);
  attached.method->Import(0, attached.file.arrays);
  if (attached.traits->name == "lora") attached.lora = LoraFileOf(attached.file.arrays, attached.file.settings);
  return attached;
}

OpenedBase::OpenedBase(const std::string& folder, const std::string& adapter_path, const std::string& device,
                       int threads)
    : models(ValueOrThrow(PrepareDevice(device, threads))), base(models.Base(folder)) {
  if (!adapter_path.empty()) adapter = AttachAdapterFile(adapter_path, base, models.device());
}

}  // namespace loupe::worker
