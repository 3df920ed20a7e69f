#include "worker/methods/file_parts.h"

#include <torch/utils.h>

namespace loupe::worker::methods {

std::map<std::string, torch::Tensor> ExportParts(const std::vector<FilePart>& parts) {
  std::map<std::string, torch::Tensor> arrays;
  for (const FilePart& part : parts) arrays[part.name] = part.value.detach().cpu().contiguous().clone();
  return arrays;
}

void ImportParts(const std::vector<FilePart>& parts, const std::map<std::string, torch::Tensor>& arrays) {
  for (const FilePart& part : parts) {
    const auto found = arrays.find(part.name);
    TORCH_CHECK(found != arrays.end(), "the adapter has no array '", part.name, "', which this cell needs");
    TORCH_CHECK(found->second.sizes() == part.value.sizes(), "the adapter's array '", part.name, "' has shape ",
                found->second.sizes(), "; expected ", part.value.sizes());
  }
  TORCH_CHECK(arrays.size() == parts.size(), "the adapter holds ", arrays.size(), " arrays; expected ", parts.size(),
              " (", parts.front().name, ", …): it was made for another cell or base");
  torch::NoGradGuard no_grad;
  for (const FilePart& part : parts) {
    torch::Tensor into = part.value;
    into.copy_(arrays.at(part.name));
  }
}

}  // namespace loupe::worker::methods
