#include "worker/models/original_names.h"

#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::worker {
namespace {

using Renaming = std::vector<std::pair<std::string_view, std::string_view>>;

// Replaces `rest` where it begins with one of the names (whole parts of it).
std::string RenamedStart(std::string rest, const Renaming& names) {
  for (const auto& [from, to] : names) {
    if (rest.starts_with(from) && rest.size() > from.size() && rest[from.size()] == '.') {
      return std::string(to) + rest.substr(from.size());
    }
  }
  return rest;
}

std::string ResnetInUNet(std::string rest) {
  return RenamedStart(std::move(rest), {{"norm1", "in_layers.0"},
                                        {"conv1", "in_layers.2"},
                                        {"time_emb_proj", "emb_layers.1"},
                                        {"norm2", "out_layers.0"},
                                        {"conv2", "out_layers.3"},
                                        {"conv_shortcut", "skip_connection"}});
}

std::string ResnetInVae(std::string rest) { return RenamedStart(std::move(rest), {{"conv_shortcut", "nin_shortcut"}}); }

// "down_blocks.2.resnets.1.conv1.weight": its parts, and what comes after the first four.
struct BlockName {
  std::string kind;  // "down_blocks"
  int64_t block = 0;
  std::string list;  // "resnets"
  int64_t index = 0;
  std::string rest;  // "conv1.weight"
};

bool ParseBlockName(const std::string& name, BlockName& parsed) {
  const std::vector<std::string> parts = absl::StrSplit(name, absl::MaxSplits('.', 4));
  if (parts.size() != 5 || !absl::SimpleAtoi(parts[1], &parsed.block) || !absl::SimpleAtoi(parts[3], &parsed.index)) {
    return false;
  }
  parsed.kind = parts[0];
  parsed.list = parts[2];
  parsed.rest = parts[4];
  return true;
}

std::string UNetBlock(const BlockName& b, int64_t resnets, const std::map<int64_t, bool>& attends) {
  const int64_t step = resnets + 1;
  if (b.kind == "down_blocks") {
    if (b.list == "downsamplers") return fmt::format("input_blocks.{}.0.op.{}", (b.block + 1) * step, b.rest.substr(5));
    const int64_t number = 1 + b.block * step + b.index;
    return b.list == "resnets" ? fmt::format("input_blocks.{}.0.{}", number, ResnetInUNet(b.rest))
                               : fmt::format("input_blocks.{}.1.{}", number, b.rest);
  }
  const int64_t number = b.block * step + (b.list == "upsamplers" ? resnets : b.index);
  if (b.list == "resnets") return fmt::format("output_blocks.{}.0.{}", number, ResnetInUNet(b.rest));
  const auto with_attention = attends.find(b.block);
  const bool behind = with_attention != attends.end() && with_attention->second;
  if (b.list == "upsamplers") return fmt::format("output_blocks.{}.{}.{}", number, behind ? 2 : 1, b.rest);
  return fmt::format("output_blocks.{}.1.{}", number, b.rest);
}

}  // namespace

bool IsOriginalCheckpoint(const std::map<std::string, ArrayView>& arrays) {
  return arrays.contains("model.diffusion_model.input_blocks.0.0.weight");
}

std::string OriginalUNetName(const std::string& name, int64_t resnets, const std::map<int64_t, bool>& attends) {
  const std::string prefix = "model.diffusion_model.";
  const std::string middle = "mid_block.";
  if (name.starts_with(middle + "attentions.0.")) return prefix + "middle_block.1." + name.substr(23);
  if (name.starts_with(middle + "resnets.")) {
    const bool first = name.starts_with(middle + "resnets.0.");
    return fmt::format("{}middle_block.{}.{}", prefix, first ? 0 : 2, ResnetInUNet(name.substr(20)));
  }
  BlockName block;
  if (ParseBlockName(name, block) && (block.kind == "down_blocks" || block.kind == "up_blocks")) {
    return prefix + UNetBlock(block, resnets, attends);
  }
  return prefix + RenamedStart(name, {{"conv_in", "input_blocks.0.0"},
                                      {"time_embedding.linear_1", "time_embed.0"},
                                      {"time_embedding.linear_2", "time_embed.2"},
                                      {"conv_norm_out", "out.0"},
                                      {"conv_out", "out.2"}});
}

std::string OriginalVaeName(const std::string& name, int64_t levels) {
  const std::string prefix = "first_stage_model.";
  const size_t dot = name.find('.');
  const std::string half = name.substr(0, dot + 1);  // "encoder."
  if (half != "encoder." && half != "decoder.") return prefix + name;
  const std::string inner = name.substr(dot + 1);
  BlockName block;
  if (inner.starts_with("mid_block.resnets.")) {
    return fmt::format("{}{}mid.block_{}.{}", prefix, half, inner.starts_with("mid_block.resnets.0.") ? 1 : 2,
                       ResnetInVae(inner.substr(20)));
  }
  if (inner.starts_with("mid_block.attentions.0.")) {
    return prefix + half + "mid.attn_1." +
           RenamedStart(
               inner.substr(23),
               {{"group_norm", "norm"}, {"to_q", "q"}, {"to_k", "k"}, {"to_v", "v"}, {"to_out.0", "proj_out"}});
  }
  if (ParseBlockName(inner, block)) {
    const bool down = block.kind == "down_blocks";
    const std::string level =
        down ? fmt::format("down.{}.", block.block) : fmt::format("up.{}.", levels - 1 - block.block);
    if (block.list == "resnets") {
      return fmt::format("{}{}{}block.{}.{}", prefix, half, level, block.index, ResnetInVae(block.rest));
    }
    return fmt::format("{}{}{}{}.{}", prefix, half, level, down ? "downsample" : "upsample", block.rest);
  }
  return prefix + half + RenamedStart(inner, {{"conv_norm_out", "norm_out"}});
}

std::string OriginalTextName(const std::string& name) { return "cond_stage_model.transformer.text_model." + name; }

}  // namespace loupe::worker
