#include "worker/executor/export_request.h"

#include <torch/types.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <system_error>
#include <utility>
#include <vector>

#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/base/model_store.h"
#include "worker/executor/attached_adapter.h"
#include "worker/executor/failure_status.h"
#include "worker/io/safetensors.h"
#include "worker/io/weight_files.h"
#include "worker/methods/files/adapter_file.h"
#include "worker/methods/files/module_files.h"
#include "worker/models/weights.h"
#include "worker/runtime/finite.h"

namespace loupe::worker::executor {
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

using Weights = std::map<std::string, torch::Tensor>;

// As the network holds them, float32, under their checkpoint names.
Weights WeightsOf(torch::nn::Module& network) {
  Weights weights;
  for (const auto& item : network.named_parameters()) weights[item.key()] = item.value().contiguous();
  return weights;
}

bool SameArrays(const Weights& a, const Weights& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const auto& x, const auto& y) { return x.second.is_same(y.second); });
}

// Puts a network's merged weights into the copied folder, in place of those that are there.
class MergedNetwork {
 public:
  MergedNetwork(const ExportRequest& request, NewFolder& folder, std::string part, std::string stem)
      : request_(request), folder_(folder), part_(std::move(part)), stem_(std::move(stem)) {}

  // Before anything is written.
  absl::Status Check(Weights& weights) const {
    for (auto& [name, value] : weights) {
      if (request_.half) value = value.to(torch::kFloat16);
      if (const std::string found = runtime::DescribeNotFinite(value); !found.empty()) {
        return absl::InvalidArgumentError(fmt::format("{}: folded into '{}': {}{}", request_.adapter, name, found,
                                                      request_.half ? "; export without --half" : ""));
      }
    }
    return absl::OkStatus();
  }
  absl::Status Write(const Weights& weights, const std::string& base_sha256) const {
    const std::string folder = folder_.partial() + "/" + part_;
    LOUPE_ASSIGN_OR_RETURN(const std::string prefix, PrefixInFile(folder));
    // All that a loader would take for weights, whatever the base had.
    std::error_code error;
    std::vector<std::filesystem::path> former;
    for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
      const std::string name = entry.path().filename();
      if (name.starts_with(stem_) || name.starts_with("pytorch_model")) former.push_back(entry.path());
    }
    for (const auto& path : former) std::filesystem::remove(path, error);
    Weights named;
    for (const auto& [name, value] : weights) named[prefix + name] = value;
    return io::WriteSafetensors(fmt::format("{}/{}.safetensors", folder, stem_), models::ToArrays(named).views,
                                {{"format", "pt"}, {"loupe.folded_adapter_base_sha256", base_sha256}});
  }

 private:
  // A text encoder's names have "text_model." in front of ours, but for files of newer versions of transformers.
  absl::StatusOr<std::string> PrefixInFile(const std::string& folder) const {
    if (part_ != "text_encoder") return std::string();
    LOUPE_ASSIGN_OR_RETURN(const io::WeightFiles files, io::WeightFiles::Open(folder, stem_));
    const std::string prefix = "text_model.";
    for (const auto& [name, array] : files.arrays()) {
      if (name.starts_with(prefix)) return prefix;
    }
    return std::string();
  }

  const ExportRequest& request_;
  NewFolder& folder_;
  const std::string part_, stem_;
};

absl::Status WriteMerged(const ExportRequest& request, const AttachedAdapter& adapter, base::BaseModel& base,
                         NewFolder& folder) {
  if (base.kind == io::BaseKind::kDiT && base.dit->config().published) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: its weights are named as in DiT's published files, and merged ones would be written by diffusers' names, "
        "whose sinusoids of the time differ; export it as a bundle",
        request.base));
  }
  const std::string base_sha256 = adapter.file.adapter.has_value() ? adapter.file.adapter->base_sha256 : "";
  const methods::BaseWeights before{WeightsOf(base.denoiser->network()), WeightsOf(base.conditioner->network())};
  methods::BaseWeights weights = before;
  if (absl::Status status = adapter.method->Merge(0, weights); !status.ok()) return Annotate(status, request.adapter);
  const MergedNetwork unet(request, folder, std::string(io::DenoiserFolder(base.kind)), "diffusion_pytorch_model");
  const MergedNetwork text(request, folder, "text_encoder", "model");
  const bool tunes_text = !SameArrays(before.conditioner, weights.conditioner);
  LOUPE_RETURN_IF_ERROR(unet.Check(weights.denoiser));
  if (tunes_text) LOUPE_RETURN_IF_ERROR(text.Check(weights.conditioner));
  LOUPE_RETURN_IF_ERROR(folder.CopyFrom(request.base));
  const Weights in_file = base.kind == io::BaseKind::kDiT
                              ? models::AsDiffusersFile(weights.denoiser, base.dit->config())
                              : weights.denoiser;
  LOUPE_RETURN_IF_ERROR(unet.Write(in_file, base_sha256));
  return tunes_text ? text.Write(weights.conditioner, base_sha256) : absl::OkStatus();
}

absl::Status WriteBundle(const ExportRequest& request, NewFolder& folder) {
  LOUPE_RETURN_IF_ERROR(folder.CopyFrom(request.base));
  std::error_code error;
  std::filesystem::copy_file(request.adapter, folder.partial() + "/adapter.safetensors", error);
  if (!error) return absl::OkStatus();
  return absl::InternalError(fmt::format("{}: cannot be copied ({})", request.adapter, error.message()));
}

absl::Status CheckLayout(const ExportRequest& request, const methods::MethodTraits& traits) {
  if (traits.Writes(request.layout)) return absl::OkStatus();
  std::string has, asked;
  for (const methods::ExportLayoutName& known : methods::kExportLayouts) {
    if (known.layout == request.layout) asked = known.name;
    if (traits.Writes(known.layout)) has += fmt::format("{}{}", has.empty() ? "" : ", ", known.name);
  }
  return absl::InvalidArgumentError(fmt::format("{}: the method {} has no layout '{}'; it can be exported as {}",
                                                request.adapter, traits.name, asked, has));
}

absl::Status Write(const ExportRequest& request, const AttachedAdapter& adapter, base::BaseModel& base,
                   NewFolder& folder) {
  switch (request.layout) {
    case methods::ExportLayout::kMerged:
      return WriteMerged(request, adapter, base, folder);
    case methods::ExportLayout::kBundle:
      return WriteBundle(request, folder);
    case methods::ExportLayout::kModules:
      if (base.kind != io::BaseKind::kUNet) {
        return absl::InvalidArgumentError(
            fmt::format("{}: the paper's module files are of a UNet, and the base is a {}", request.base,
                        io::BaseKindName(base.kind)));
      }
      return methods::files::WriteModuleFiles(folder.partial(), *adapter.file.adapter,
                                              base.unet->config().levels.front().resnets);
    case methods::ExportLayout::kDiffusers:
    case methods::ExportLayout::kPeft:
    case methods::ExportLayout::kKohya:
    case methods::ExportLayout::kA1111:
      return methods::WriteTunedFile(adapter.file, request.layout, folder.partial());
  }
  return absl::InternalError("a layout without a writer");
}

absl::Status Export(const ExportRequest& request) {
  base::ModelStore models(torch::kCPU);
  base::LoadedModel<base::BaseModel>& base = models.Base(request.base);
  // Attached once, so that an adapter of another base is refused here and not by its later reader.
  const AttachedAdapter adapter = AttachAdapterFile(request.adapter, base, torch::kCPU);
  LOUPE_RETURN_IF_ERROR(CheckLayout(request, *adapter.file.traits));
  NewFolder folder(request.out);
  LOUPE_RETURN_IF_ERROR(folder.Begin());
  LOUPE_RETURN_IF_ERROR(Write(request, adapter, base.model, folder));
  return folder.Finish();
}

absl::Status Convert(const ConvertRequest& request) {
  LOUPE_ASSIGN_OR_RETURN(const methods::TunedFileKind kind, methods::RecogniseTunedFile(request.file));
  base::ModelStore models(torch::kCPU);
  nn::TuningSites sites;
  if (!request.base.empty()) {
    sites = SitesOf(models.Base(request.base).model);
  } else if (kind == methods::TunedFileKind::kLora || kind == methods::TunedFileKind::kLycoris) {
    return absl::InvalidArgumentError(
        fmt::format("{}: programs name a LoRA's layers differently: give --base, the folder of the base that it is for",
                    request.file));
  }
  LOUPE_ASSIGN_OR_RETURN(methods::TunedFile file, methods::ReadTunedFile(request.file, sites));
  if (!request.name.empty()) {
    if (file.embedding.has_value()) {
      file.embedding->token = request.name;
    } else if (file.hypernetwork.has_value()) {
      file.hypernetwork->name = request.name;
    } else {
      return absl::InvalidArgumentError(
          fmt::format("{}: --name is for embeddings and hypernetworks, and it is none", request.file));
    }
  }
  NewFolder folder(request.out);
  LOUPE_RETURN_IF_ERROR(folder.Begin());
  LOUPE_RETURN_IF_ERROR(methods::WriteTunedFile(file, request.layout, folder.partial()));
  return folder.Finish();
}

}  // namespace

absl::Status ExportToFolder(const ExportRequest& request) {
  absl::Status status;
  LOUPE_RETURN_IF_ERROR(StatusOfThrown([&] { status = Export(request); }));
  return status;
}

absl::Status ConvertToFolder(const ConvertRequest& request) {
  absl::Status status;
  LOUPE_RETURN_IF_ERROR(StatusOfThrown([&] { status = Convert(request); }));
  return status;
}

}  // namespace loupe::worker::executor
