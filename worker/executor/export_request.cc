#include "worker/executor/export_request.h"

#include <torch/types.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <system_error>
#include <utility>

#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/base/model_store.h"
#include "worker/executor/attached_adapter.h"
#include "worker/executor/failure_status.h"
#include "worker/io/safetensors.h"
#include "worker/methods/files/adapter_file.h"
#include "worker/methods/files/module_files.h"
#include "worker/methods/folded_weights.h"
#include "worker/models/weights.h"
#include "worker/runtime/finite.h"

namespace loupe::worker {
namespace {

// A folder that is filled beside its place and then put there.
class NewFolder {
 public:
  explicit NewFolder(std::string path)
      : path_(std::move(path)), partial_(fmt::format("{}.partial-{}", path_, ::getpid())) {}
  ~NewFolder() {
    std::error_code error;
    std::filesystem::remove_all(partial_, error);
  }
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;

  const std::string& partial() const { return partial_; }

  absl::Status Begin() {
    std::error_code error;
    if (std::filesystem::exists(path_, error)) {
      return absl::AlreadyExistsError(fmt::format("{}: exists; expected the name of a new folder", path_));
    }
    std::filesystem::create_directories(partial_, error);
    return Failure(error);
  }
  absl::Status Finish() {
    std::error_code error;
    std::filesystem::rename(partial_, path_, error);
    return Failure(error);
  }
  absl::Status CopyFrom(const std::string& folder) {
    std::error_code error;
    std::filesystem::copy(folder, partial_,
                          std::filesystem::copy_options::recursive | std::filesystem::copy_options::overwrite_existing,
                          error);
    return Failure(error);
  }

 private:
  absl::Status Failure(const std::error_code& error) const {
    if (!error) return absl::OkStatus();
    return absl::PermissionDeniedError(fmt::format("{}: cannot be written ({})", path_, error.message()));
  }

  const std::string path_;
  const std::string partial_;
};

// The UNet's weights as the network holds them, float32, under their checkpoint names.
std::map<std::string, torch::Tensor> WeightsOf(torch::nn::Module& network) {
  std::map<std::string, torch::Tensor> weights;
  for (const auto& item : network.named_parameters()) weights[item.key()] = item.value().contiguous();
  return weights;
}

absl::Status WriteMerged(const ExportRequest& request, const AdapterFile& adapter, BaseModel& base, NewFolder& folder) {
  auto weights = WeightsOf(*base.unet);
  if (absl::Status status = FoldAdapter(adapter, weights); !status.ok()) return Annotate(status, request.adapter);
  if (request.half) {
    for (auto& [name, value] : weights) value = value.to(torch::kFloat16);
  }
  for (const auto& [name, value] : weights) {
    if (const std::string found = DescribeNotFinite(value); !found.empty()) {
      return absl::InvalidArgumentError(fmt::format("{}: folded into '{}': {}{}", request.adapter, name, found,
                                                    request.half ? "; export without --half" : ""));
    }
  }
  LOUPE_RETURN_IF_ERROR(folder.CopyFrom(request.base));
  const std::string unet = folder.partial() + "/unet/diffusion_pytorch_model";
  std::error_code error;
  std::filesystem::remove(unet + ".fp16.safetensors", error);
  return WriteSafetensors(unet + ".safetensors", ToArrays(weights).views,
                          {{"format", "pt"}, {"loupe.folded_adapter_base_sha256", adapter.base_sha256}});
}

absl::Status WriteBundle(const ExportRequest& request, NewFolder& folder) {
  LOUPE_RETURN_IF_ERROR(folder.CopyFrom(request.base));
  std::error_code error;
  std::filesystem::copy_file(request.adapter, folder.partial() + "/adapter.safetensors", error);
  if (!error) return absl::OkStatus();
  return absl::InternalError(fmt::format("{}: cannot be copied ({})", request.adapter, error.message()));
}

absl::Status Export(const ExportRequest& request) {
  ModelStore models(torch::kCPU);
  LoadedModel<BaseModel>& base = models.Base(request.base);
  // Attached once, so that an adapter of another base is refused here and not by its later reader.
  const AttachedAdapter adapter = AttachAdapterFile(request.adapter, base, torch::kCPU);
  NewFolder folder(request.out);
  LOUPE_RETURN_IF_ERROR(folder.Begin());
  switch (request.layout) {
    case ExportLayout::kMerged:
      LOUPE_RETURN_IF_ERROR(WriteMerged(request, adapter.file, base.model, folder));
      break;
    case ExportLayout::kBundle:
      LOUPE_RETURN_IF_ERROR(WriteBundle(request, folder));
      break;
    case ExportLayout::kModules:
      LOUPE_RETURN_IF_ERROR(
          WriteModuleFiles(folder.partial(), adapter.file, base.model.unet->config().levels.front().resnets));
      break;
  }
  return folder.Finish();
}

}  // namespace

absl::Status ExportToFolder(const ExportRequest& request) {
  absl::Status status;
  LOUPE_RETURN_IF_ERROR(StatusOfThrown([&] { status = Export(request); }));
  return status;
}

}  // namespace loupe::worker
