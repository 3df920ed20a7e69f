#include "worker/models/weights.h"

#include <torch/utils.h>

#include <cstring>
#include <optional>

#include "common/sha256.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "worker/runtime/finite.h"

namespace loupe::worker::models {
namespace {

// What tensors there are for; the narrowest floats (F6, F4) have none.
constexpr std::pair<io::ElementType, torch::ScalarType> kScalarTypes[] = {
    {io::ElementType::kF16, torch::kFloat16},
    {io::ElementType::kBF16, torch::kBFloat16},
    {io::ElementType::kF32, torch::kFloat32},
    {io::ElementType::kF64, torch::kFloat64},
    {io::ElementType::kI64, torch::kInt64},
    {io::ElementType::kI32, torch::kInt32},
    {io::ElementType::kU8, torch::kUInt8},
    {io::ElementType::kBool, torch::kBool},
    {io::ElementType::kI8, torch::kInt8},
    {io::ElementType::kI16, torch::kInt16},
    {io::ElementType::kU16, torch::kUInt16},
    {io::ElementType::kU32, torch::kUInt32},
    {io::ElementType::kU64, torch::kUInt64},
    {io::ElementType::kC64, torch::kComplexFloat},
    {io::ElementType::kF8E4M3, torch::kFloat8_e4m3fn},
    {io::ElementType::kF8E5M2, torch::kFloat8_e5m2},
    {io::ElementType::kF8E4M3Fnuz, torch::kFloat8_e4m3fnuz},
    {io::ElementType::kF8E5M2Fnuz, torch::kFloat8_e5m2fnuz},
    {io::ElementType::kF8E8M0, torch::kFloat8_e8m0fnu},
};

std::optional<torch::ScalarType> ScalarTypeOf(io::ElementType type) {
  for (const auto& [element, scalar] : kScalarTypes) {
    if (element == type) return scalar;
  }
  return std::nullopt;
}

io::ElementType ElementTypeOf(torch::ScalarType type) {
  for (const auto& [element, scalar] : kScalarTypes) {
    if (scalar == type) return element;
  }
  TORCH_CHECK(false, "tensors of type ", type, " cannot be written as safetensors");
}

// A network's weights are floats. Integers of the right shape are what a quantised network was packed into: their
// numbers mean nothing without the rest.
bool IsWeightType(io::ElementType type) {
  const auto scalar = ScalarTypeOf(type);
  return scalar.has_value() && torch::isFloatingType(*scalar);
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

std::string ShapeText(at::IntArrayRef shape) {
  return fmt::format("[{}]", fmt::join(shape.begin(), shape.end(), ", "));
}

// The first few problems, in one sentence.
class Problems {
 public:
  void Add(std::string problem) {
    if (++count_ <= kShown) text_ += (text_.empty() ? "" : "; ") + problem;
  }
  // `judgement`: "does not fit …".
  absl::Status ToStatus(const std::string& path, const std::string& judgement) const {
    if (count_ == 0) return absl::OkStatus();
    const std::string more = count_ > kShown ? fmt::format("; and {} more", count_ - kShown) : "";
    return absl::InvalidArgumentError(fmt::format("{}: {}: {}{}", path, judgement, text_, more));
  }

 private:
  static constexpr int kShown = 3;
  int count_ = 0;
  std::string text_;
};

}  // namespace

torch::Tensor ToTensor(const io::ArrayView& array) {
  const auto type = ScalarTypeOf(array.type);
  TORCH_CHECK(type.has_value(), "there are no tensors of type ", io::ElementTypeName(array.type));
  auto tensor = torch::empty(array.shape, *type);
  if (!array.bytes.empty()) std::memcpy(tensor.data_ptr(), array.bytes.data(), array.bytes.size());
  return tensor;
}

namespace {

absl::Status FillFromArrays(torch::nn::Module& network, const std::string& path,
                            const std::map<std::string, io::ArrayView>& in_file, const WeightOptions& options) {
  Problems problems;
  auto parameters = network.named_parameters();
  std::vector<std::pair<torch::Tensor*, const io::ArrayView*>> pairs;
  std::map<const torch::Tensor*, std::string> names;
  std::map<std::string, const io::ArrayView*> arrays;
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
    } else if (!IsWeightType(found->second->type)) {
      problems.Add(
          fmt::format("'{}' is of type {}, expected floats (F32, F16, BF16, F64 or F8_…) and no quantised weights",
                      item.key(), io::ElementTypeName(found->second->type)));
    } else {
      pairs.emplace_back(&item.value(), found->second);
      names[&item.value()] = item.key();
    }
  }
  if (absl::Status status = problems.ToStatus(path, "does not fit " + options.network); !status.ok()) return status;

  torch::NoGradGuard no_grad;
  Problems not_finite;
  for (auto& [parameter, array] : pairs) {
    const bool image_weight = options.channels_last && parameter->dim() == 4;
    const torch::Tensor value = ToTensor(*array).to(options.device, options.dtype);
    if (const std::string found = runtime::DescribeNotFinite(value); !found.empty()) {
      not_finite.Add(fmt::format("'{}': {}", names.at(parameter), found));
    }
    parameter->set_data(
        value.contiguous(image_weight ? torch::MemoryFormat::ChannelsLast : torch::MemoryFormat::Contiguous));
    parameter->set_requires_grad(false);
  }
  return not_finite.ToStatus(path, "holds weights that are not finite, get it again");
}

}  // namespace

absl::Status LoadWeights(torch::nn::Module& network, const io::WeightFiles& files, const WeightOptions& options) {
  return FillFromArrays(network, files.path(), files.arrays(), options);
}

absl::Status LoadWeights(torch::nn::Module& network, const std::string& path,
                         const std::map<std::string, io::ArrayView>& arrays, const WeightOptions& options) {
  return FillFromArrays(network, path, arrays, options);
}

absl::Status LoadWeightFile(torch::nn::Module& network, const std::string& path, const WeightOptions& options) {
  LOUPE_ASSIGN_OR_RETURN(const io::WeightFiles files, io::WeightFiles::OpenFile(path));
  return LoadWeights(network, files, options);
}

std::string DigestOfArrays(const std::map<std::string, io::ArrayView>& arrays) {
  Sha256 digest;
  for (const auto& [name, array] : arrays) {
    digest.Update(fmt::format("{}\n{}\n{}\n", name, io::ElementTypeName(array.type), fmt::join(array.shape, " ")));
    digest.Update(array.bytes);
  }
  return digest.FinishHex();
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

}  // namespace loupe::worker::models
