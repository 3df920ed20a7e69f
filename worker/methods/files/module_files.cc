#include "worker/methods/files/module_files.h"

#include <map>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/io/torch_archive.h"
#include "worker/models/weights.h"

namespace loupe::worker::methods::files {
namespace {

// The text between dots, up to `count` parts; the last holds the rest.
std::vector<std::string> DottedParts(const std::string& name, size_t count) {
  std::vector<std::string> parts;
  size_t start = 0;
  while (parts.size() + 1 < count) {
    const size_t dot = name.find('.', start);
    if (dot == std::string::npos) break;
    parts.push_back(name.substr(start, dot - start));
    start = dot + 1;
  }
  parts.push_back(name.substr(start));
  return parts;
}

// {ours, theirs} after "{block}.adapter.".
std::vector<std::pair<std::string, std::string>> LayerNames(bool residual) {
  if (residual) {
    return {{"norm.weight", "0.weight"}, {"norm.bias", "0.bias"},   {"down.weight", "2.weight"},
            {"down.bias", "2.bias"},     {"up.weight", "4.weight"}, {"up.bias", "4.bias"}};
  }
  return {{"down.weight", "adp.0.weight"},
          {"down.bias", "adp.0.bias"},
          {"up.weight", "adp.2.weight"},
          {"up.bias", "adp.2.bias"}};
}

}  // namespace

std::string OriginalModuleName(const std::string& name, int64_t resnets_per_level) {
  const bool middle = name.starts_with("mid_block.");
  // down_blocks.{level}.{attentions|resnets}.{index}[.rest], or mid_block.{kind}.{index}[.rest]
  const std::vector<std::string> parts = DottedParts(name, middle ? 4 : 5);
  const size_t at = middle ? 1 : 2;
  if (parts.size() < at + 2) return "";
  const bool attention = parts[at] == "attentions";
  int64_t level = 0, index = 0;
  if ((!attention && parts[at] != "resnets") || !absl::SimpleAtoi(parts[at + 1], &index)) return "";
  const std::string rest = parts.size() > at + 2 ? "." + parts[at + 2] : "";
  // middle_block: resnet, transformer, resnet.
  if (middle) return fmt::format("middle_block.{}{}", attention ? 1 : 2 * index, rest);
  if (!absl::SimpleAtoi(parts[1], &level)) return "";
  const int64_t within = attention ? 1 : 0;
  // The first of the input blocks is conv_in, and each level ends with its downsampler; on the way up the upsampler
  // shares the last block's number.
  const int64_t number =
      parts[0] == "down_blocks" ? 1 + level * (resnets_per_level + 1) + index : level * (resnets_per_level + 1) + index;
  if (parts[0] != "down_blocks" && parts[0] != "up_blocks") return "";
  return fmt::format("{}.{}.{}{}", parts[0] == "down_blocks" ? "input_blocks" : "output_blocks", number, within, rest);
}

absl::Status WriteModuleFiles(const std::string& folder, const AdapterFile& file, int64_t resnets_per_level) {
  const std::string ending = ".adapter.down.weight";
  for (const auto& [name, value] : file.arrays) {
    if (!name.ends_with(ending)) continue;
    const std::string block = name.substr(0, name.size() - ending.size());
    const std::string original = OriginalModuleName(block, resnets_per_level);
    if (original.empty()) {
      return absl::InvalidArgumentError(fmt::format("'{}' has no name in the original Stable Diffusion code", block));
    }
    const bool residual = file.arrays.contains(block + ".adapter.norm.weight");
    std::map<std::string, torch::Tensor> entries;
    for (const auto& [ours, theirs] : LayerNames(residual)) {
      const auto found = file.arrays.find(block + ".adapter." + ours);
      if (found == file.arrays.end()) {
        return absl::InvalidArgumentError(fmt::format("the adapter has no array '{}.adapter.{}'", block, ours));
      }
      entries[theirs] = found->second;
    }
    LOUPE_RETURN_IF_ERROR(
        io::WriteTorchArchive(fmt::format("{}/{}.{}.pt", folder, original, residual ? "adapter" : "adapter_inout"),
                              models::ToArrays(entries).views));
  }
  return absl::OkStatus();
}

}  // namespace loupe::worker::methods::files
