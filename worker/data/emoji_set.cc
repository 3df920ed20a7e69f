#include "worker/data/emoji_set.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <memory>
#include <set>
#include <system_error>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "common/atomic_file.h"
#include "common/settings/settings.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "nlohmann/json.hpp"
#include "worker/data/emoji_assets.h"
#include "worker/data/emoji_renderer.h"
#include "worker/io/json_config.h"

namespace loupe::worker {
namespace {

absl::StatusOr<std::vector<uint32_t>> ParseCodePoints(const std::string& text) {
  std::vector<uint32_t> code_points;
  for (const auto part : absl::StrSplit(text, absl::ByAnyChar("- "))) {
    uint32_t value = 0;
    if (!absl::SimpleHexAtoi(part, &value)) {
      return absl::InvalidArgumentError(fmt::format("'{}' is no sequence of hexadecimal code points", text));
    }
    code_points.push_back(value);
  }
  return code_points;
}

absl::StatusOr<EmojiItem> ParseItem(const nlohmann::json& entry) {
  EmojiItem item;
  for (const char* key : {"cp", "name", "kw", "sub", "hold"}) {
    if (!entry.contains(key)) return absl::InvalidArgumentError(fmt::format("key '{}' is missing", key));
  }
  LOUPE_ASSIGN_OR_RETURN(item.code_points, ParseCodePoints(entry["cp"].get<std::string>()));
  item.name = entry["name"].get<std::string>();
  item.keywords = entry["kw"].get<std::vector<std::string>>();
  item.subgroup = entry["sub"].get<std::string>();
  item.held_out = entry["hold"].get<std::string>();
  return item;
}

// "cat-faces" and "monkeys" for Unicode's "cat-face" and "monkey-face".
std::string SubgroupOf(const std::string& family) {
  if (family == "cat-faces") return "cat-face";
  if (family == "monkeys") return "monkey-face";
  return family;
}

std::string FileName(const EmojiItem& item) {
  std::string slug;
  for (const char c : item.name) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0) {
      slug += c;
    } else if (!slug.empty() && slug.back() != '-') {
      slug += '-';
    }
  }
  while (!slug.empty() && slug.back() == '-') slug.pop_back();
  return fmt::format("{:04}-{}.png", item.index, slug);
}

absl::Status WriteIfChanged(const std::string& path, const std::string& bytes) {
  const auto before = ReadFile(path);
  if (before.ok() && *before == bytes) return absl::OkStatus();
  return WriteFileAtomically(path, bytes);
}

}  // namespace

absl::StatusOr<std::vector<EmojiItem>> ReadEmojiItems(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(const nlohmann::json list, ReadJsonFile(path));
  if (!list.is_array()) return absl::InvalidArgumentError(fmt::format("{}: expected a JSON list of emoji", path));
  std::vector<EmojiItem> items;
  for (const auto& entry : list) {
    absl::StatusOr<EmojiItem> item;
    try {
      item = ParseItem(entry);
    } catch (const nlohmann::json::exception& error) {
      item = absl::InvalidArgumentError(error.what());
    }
    if (!item.ok()) return Annotate(item.status(), fmt::format("{}: entry {}", path, items.size()));
    item->index = static_cast<int64_t>(items.size());
    items.push_back(*std::move(item));
  }
  return items;
}

absl::StatusOr<std::vector<EmojiItem>> SelectEmojiFamily(const std::vector<EmojiItem>& items,
                                                         const std::string& family) {
  const std::string subgroup = SubgroupOf(family);
  std::vector<EmojiItem> selected;
  std::set<std::string> families = {"all", "training", "cat-faces", "monkeys"};
  for (const EmojiItem& item : items) {
    families.insert(item.subgroup);
    if (family == "all" || (family == "training" && item.held_out.empty()) || item.subgroup == subgroup) {
      selected.push_back(item);
    }
  }
  if (!selected.empty()) return selected;
  return absl::InvalidArgumentError(
      fmt::format("there is no family '{}' of emoji; expected one of {}", family, fmt::join(families, ", ")));
}

absl::StatusOr<int64_t> RenderEmoji(const std::vector<EmojiItem>& items, const RenderEmojiOptions& options) {
  std::unique_ptr<EmojiRenderer> renderer;
  if (options.asset_folder.empty()) {
    LOUPE_ASSIGN_OR_RETURN(renderer, EmojiRenderer::Create(options.font_path));
  } else {
    LOUPE_RETURN_IF_ERROR(CheckEmojiAssets(options.asset_folder));
  }
  std::error_code error;
  std::filesystem::create_directories(options.out_folder, error);
  if (error) {
    return absl::PermissionDeniedError(
        fmt::format("{}: the folder cannot be made ({})", options.out_folder, error.message()));
  }
  std::string metadata;
  int64_t count = 0;
  for (const EmojiItem& item : items) {
    auto image = renderer ? renderer->Render(item.code_points, options.side)
                          : ReadEmojiAsset(options.asset_folder, item.code_points, options.side);
    if (!renderer && absl::IsNotFound(image.status())) continue;
    if (!image.ok()) return Annotate(image.status(), item.name);
    const std::string name = FileName(item);
    LOUPE_RETURN_IF_ERROR(WriteIfChanged(options.out_folder + "/" + name, EncodePng(*image)));
    metadata += nlohmann::json({{"file_name", name}, {"text", item.name}}).dump() + "\n";
    ++count;
  }
  if (count == 0) {
    return absl::InvalidArgumentError(
        fmt::format("{}: has none of the {} emoji asked for", options.asset_folder, items.size()));
  }
  LOUPE_RETURN_IF_ERROR(WriteIfChanged(options.out_folder + "/metadata.jsonl", metadata));
  return count;
}

}  // namespace loupe::worker
