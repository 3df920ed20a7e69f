#include "worker/models/original_names.h"

#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::worker::models {
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

bool IsOriginalCheckpoint(const std::map<std::string, io::ArrayView>& arrays) {
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
                                      {"add_embedding.linear_1", "label_emb.0.0"},
                                      {"add_embedding.linear_2", "label_emb.0.2"},
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

namespace {

// OpenCLIP's name of one of transformers'.
OriginalPlace OpenClipPlace(const std::string& name) {
  if (name == "embeddings.position_embedding.weight") return {.name = "positional_embedding"};
  if (name == "text_projection.weight") return {.name = "text_projection", .transposed = true};
  const std::string layers = "encoder.layers.";
  if (!name.starts_with(layers)) {
    return {.name = RenamedStart(
                name, {{"embeddings.token_embedding", "token_embedding"}, {"final_layer_norm", "ln_final"}})};
  }
  const size_t dot = name.find('.', layers.size());
  const std::string layer = "transformer.resblocks." + name.substr(layers.size(), dot + 1 - layers.size());
  const std::string rest = name.substr(dot + 1);
  const std::string_view parts[] = {"self_attn.q_proj.", "self_attn.k_proj.", "self_attn.v_proj."};
  for (int64_t i = 0; i < 3; ++i) {
    if (rest.starts_with(parts[i])) {
      return {.name = layer + "attn.in_proj_" + rest.substr(parts[i].size()), .third = i};
    }
  }
  return {.name = layer + RenamedStart(rest, {{"self_attn.out_proj", "attn.out_proj"},
                                              {"layer_norm1", "ln_1"},
                                              {"layer_norm2", "ln_2"},
                                              {"mlp.fc1", "mlp.c_fc"},
                                              {"mlp.fc2", "mlp.c_proj"}})};
}

// Rows and columns exchanged.
std::string TransposedBytes(const io::ArrayView& array) {
  const auto rows = static_cast<size_t>(array.shape[0]), columns = static_cast<size_t>(array.shape[1]);
  const size_t width = array.bytes.size() / (rows * columns);
  std::string bytes(array.bytes.size(), '\0');
  for (size_t row = 0; row < rows; ++row) {
    for (size_t column = 0; column < columns; ++column) {
      array.bytes.copy(bytes.data() + (column * rows + row) * width, width, (row * columns + column) * width);
    }
  }
  return bytes;
}

}  // namespace

OriginalPlaces OriginalTextPlaces(const std::map<std::string, io::ArrayView>& file, bool second) {
  const auto has = [&](const std::string& prefix) {
    const auto next = file.lower_bound(prefix);
    return next != file.end() && next->first.starts_with(prefix);
  };
  const std::string open_clip = second ? "conditioner.embedders.1.model." : "cond_stage_model.model.";
  if (second || has(open_clip)) {
    return [open_clip](const std::string& name) {
      OriginalPlace place = OpenClipPlace(name);
      place.name = open_clip + place.name;
      return place;
    };
  }
  const std::string xl = "conditioner.embedders.0.";
  const std::string clip = (has(xl) ? xl : "cond_stage_model.") + "transformer.text_model.";
  return [clip](const std::string& name) { return OriginalPlace{.name = clip + name}; };
}

OriginalArrays FromOriginal(const torch::nn::Module& network, const std::map<std::string, io::ArrayView>& file,
                            const OriginalPlaces& places) {
  OriginalArrays found;
  for (const auto& item : network.named_parameters()) {
    const OriginalPlace place = places(item.key());
    const auto array = file.find(place.name);
    if (array == file.end()) continue;
    io::ArrayView view = array->second;
    const bool pointwise = view.shape.size() == 4 && view.shape[2] == 1 && view.shape[3] == 1;
    if (pointwise && item.value().dim() == 2) view.shape.resize(2);
    if (place.third >= 0 && !view.shape.empty() && view.shape[0] % 3 == 0) {
      const size_t part = view.bytes.size() / 3;
      view.bytes = view.bytes.substr(static_cast<size_t>(place.third) * part, part);
      view.shape[0] /= 3;
    }
    if (place.transposed && view.shape.size() == 2 && !view.bytes.empty()) {
      found.kept.push_back(std::make_shared<const std::string>(TransposedBytes(view)));
      view.bytes = *found.kept.back();
      std::swap(view.shape[0], view.shape[1]);
    }
    found.views[item.key()] = std::move(view);
  }
  return found;
}

}  // namespace loupe::worker::models
