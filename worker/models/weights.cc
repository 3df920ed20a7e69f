#include "worker/models/weights.h"

#include <torch/utils.h>

#include <cstring>

#include "common/status_macros.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "worker/io/torch_checkpoint.h"

namespace loupe::worker {
namespace {

torch::ScalarType ScalarTypeOf(ElementType type) {
  switch (type) {
    case ElementType::kF16:
      return torch::kFloat16;
    case ElementType::kBF16:
      return torch::kBFloat16;
    case ElementType::kF32:
      return torch::kFloat32;
    case ElementType::kF64:
      return torch::kFloat64;
    case ElementType::kI64:
      return torch::kInt64;
    case ElementType::kI32:
      return torch::kInt32;
    case ElementType::kU8:
      return torch::kUInt8;
  }
  TORCH_CHECK(false, "element type ", static_cast<int>(type), " has no tensor type");
}

ElementType ElementTypeOf(torch::ScalarType type) {
  for (const ElementType candidate : {ElementType::kF16, ElementType::kBF16, ElementType::kF32, ElementType::kF64,
                                      ElementType::kI64, ElementType::kI32, ElementType::kU8}) {
    if (ScalarTypeOf(candidate) == type) return candidate;
  }
  TORCH_CHECK(false, "tensors of type ", type, " cannot be written as safetensors");
}

// The file's name for a weight as the network knows it; empty: no weight.
std::string NetworkName(std::string name, const WeightOptions& options) {
  for (const std::string& ending : options.passed_over) {
    if (name.ends_with(ending)) return "";
  }
  if (name.starts_with(options.strip_prefix)) name.erase(0, options.strip_prefix.size());
  for (const auto& [old_name, new_name] : options.renamed) {
    if (const size_t at = name.find(old_name); at != std::string::npos) name.replace(at, old_name.size(), new_name);
  }
  return name;
}

std::string ShapeText(at::IntArrayRef shape) { return fmt::format("[{}]", fmt::join(shape.begin(), shape.end(), ", ")); }

// The first few problems, in one sentence.
class Problems {
 public:
  void Add(std::string problem) {
    if (++count_ <= kShown) text_ += (text_.empty() ? "" : "; ") + problem;
  }
  absl::Status ToStatus(const std::string& path, const std::string& network) const {
    if (count_ == 0) return absl::OkStatus();
    const std::string more = count_ > kShown ? fmt::format("; and {} more", count_ - kShown) : "";
    return absl::InvalidArgumentError(fmt::format("{}: does not fit {}: {}{}", path, network, text_, more));
  }

 private:
  static constexpr int kShown = 3;
  int count_ = 0;
  std::string text_;
};

}  // namespace

torch::Tensor ToTensor(const ArrayView& array) {
  auto tensor = torch::empty(array.shape, ScalarTypeOf(array.type));
  if (!array.bytes.empty()) std::memcpy(tensor.data_ptr(), array.bytes.data(), array.bytes.size());
  return tensor;
}

namespace {

absl::Status FillFromArrays(torch::nn::Module& network, const std::string& path,
                            const std::map<std::string, ArrayView>& in_file, const WeightOptions& options) {
  Problems problems;
  auto parameters = network.named_parameters();
  std::vector<std::pair<torch::Tensor*, const ArrayView*>> pairs;
  std::map<std::string, const ArrayView*> arrays;
  for (const auto& [file_name, array] : in_file) {
    const std::string name = NetworkName(file_name, options);
    if (name.empty()) continue;
    if (parameters.contains(name)) {
      arrays[name] = &array;
    } else {
      problems.Add(fmt::format("'{}' {} is in the file but not in the network", file_name, ShapeText(array.shape)));
    }
  }
  for (auto& item : parameters) {
    const auto found = arrays.find(item.key());
    if (found == arrays.end()) {
      problems.Add(fmt::format("'{}' {} is missing", item.key(), ShapeText(item.value().sizes())));
    } else if (at::IntArrayRef(found->second->shape) != item.value().sizes()) {
      problems.Add(fmt::format("'{}' has shape {}, expected {}", item.key(), ShapeText(found->second->shape),
                               ShapeText(item.value().sizes())));
    } else {
      pairs.emplace_back(&item.value(), found->second);
    }
  }
  if (absl::Status status = problems.ToStatus(path, options.network); !status.ok()) return status;

  torch::NoGradGuard no_grad;
  for (auto& [parameter, array] : pairs) {
    const bool image_weight = options.channels_last && parameter->dim() == 4;
    parameter->set_data(
        ToTensor(*array)
            .to(options.device, options.dtype)
            .contiguous(image_weight ? torch::MemoryFormat::ChannelsLast : torch::MemoryFormat::Contiguous));
    parameter->set_requires_grad(false);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status LoadWeights(torch::nn::Module& network, const SafetensorsFile& file, const WeightOptions& options) {
  return FillFromArrays(network, file.path(), file.arrays(), options);
}

absl::Status LoadWeightFile(torch::nn::Module& network, const std::string& path, const WeightOptions& options) {
  if (path.ends_with(".safetensors")) {
    LOUPE_ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Open(path));
    return LoadWeights(network, file, options);
  }
  LOUPE_ASSIGN_OR_RETURN(const TorchCheckpoint file, TorchCheckpoint::Open(path));
  return FillFromArrays(network, path, file.arrays(), options);
}

TensorArrays ToArrays(const std::map<std::string, torch::Tensor>& tensors) {
  TensorArrays arrays;
  for (const auto& [name, tensor] : tensors) {
    const auto flat = tensor.detach().to(torch::kCPU).contiguous();
    arrays.kept.push_back(flat);
    arrays.views[name] = {ElementTypeOf(flat.scalar_type()), flat.sizes().vec(),
                          std::string_view(static_cast<const char*>(flat.const_data_ptr()), flat.nbytes())};
  }
  return arrays;
}

}  // namespace loupe::worker
