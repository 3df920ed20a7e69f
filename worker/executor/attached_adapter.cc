#include "worker/executor/attached_adapter.h"

#include <utility>

#include "spdlog/spdlog.h"
#include "worker/adapters/method_registry.h"
#include "worker/layers/tappable.h"
#include "worker/train/user_error.h"

namespace loupe::worker {

AttachedAdapter AttachAdapterFile(const std::string& path, LoadedModel<BaseModel>& base, torch::Device device) {
  AdapterFile file = ValueOrThrow(ReadAdapterFile(path));
  if (file.base_sha256 != base.sha256) {
    spdlog::warn("{} was trained on another base than {}", path, base.model.folder);
  }
  auto method = MakeMethod(TappableBlocksIn(*base.model.unet), {{file.settings, 0}}, device);
  method->Import(0, file.arrays);
  return {std::move(file), std::move(method)};
}

}  // namespace loupe::worker
