#include "worker/data/emoji_set.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <system_error>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "common/atomic_file.h"
#include "common/settings/settings.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "nlohmann/json.hpp"
#include "worker/data/emoji_assets.h"
#include "worker/data/emoji_renderer.h"
#include "worker/io/json_config.h"

namespace loupe::worker::data {
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

}  // namespace

absl::Status WriteFileIfChanged(const std::string& path, const std::string& bytes) {
  const auto before = ReadFile(path);
  if (before.ok() && *before == bytes) return absl::OkStatus();
  return WriteFileAtomically(path, bytes);
}

absl::StatusOr<std::vector<EmojiItem>> ReadEmojiItems(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(const nlohmann::json list, io::ReadJsonFile(path));
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

absl::StatusOr<HeldOutRule> HeldOutRule::Read(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(const nlohmann::json json, io::ReadJsonFile(path));
  HeldOutRule rule;
  try {
    rule.styles = json.at("styles").get<std::vector<std::string>>();
    rule.pairs_share = json.at("pairs_share").get<double>();
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(fmt::format("{}: {}", path, error.what()));
  }
  if (!(rule.pairs_share >= 0 && rule.pairs_share < 1)) {
    return absl::InvalidArgumentError(fmt::format("{}: 'pairs_share' is {}, expected 0 to 1", path, rule.pairs_share));
  }
  return rule;
}

std::string HeldOutRule::Why(const std::string& style, const std::string& thing) const {
  if (std::find(styles.begin(), styles.end(), style) != styles.end()) return "style";
  uint32_t number = 0;
  const bool parsed = absl::SimpleHexAtoi(Sha256Hex(style + "/" + thing).substr(0, 8), &number);
  return parsed && number < pairs_share * 4294967296.0 ? "pair" : "";
}

std::string StyledName(const std::string& name, const std::string& style) {
  return fmt::format("{} in {} style", name, style);
}

namespace {

// One style's pictures, wherever they come from.
class StylePictures {
 public:
  static absl::StatusOr<StylePictures> Open(const RenderEmojiOptions& options) {
    const auto& styles = EmojiStyles();
    const auto found = std::find_if(styles.begin(), styles.end(),
                                    [&](const EmojiStyle& style) { return style.name == options.style; });
    if (found == styles.end()) {
      return absl::InvalidArgumentError(fmt::format("there is no style '{}' of emoji", options.style));
    }
    StylePictures pictures;
    if (found->folder.empty()) {
      LOUPE_ASSIGN_OR_RETURN(pictures.renderer_, EmojiRenderer::Create(options.font_path));
    } else {
      pictures.folder_ = options.asset_folder.empty() ? found->folder : options.asset_folder;
      LOUPE_ASSIGN_OR_RETURN(pictures.assets_, EmojiAssets::Open(pictures.folder_, found->source));
    }
    return pictures;
  }

  // NOT_FOUND: the style has no such emoji. A font that lacks one of the list is another font than the list was made
  // for.
  absl::StatusOr<io::Image> Draw(const EmojiItem& item, int side) const {
    if (!renderer_) return assets_->Read(item.code_points, side);
    auto image = renderer_->Render(item.code_points, side);
    return absl::IsNotFound(image.status()) ? absl::InvalidArgumentError(image.status().message()) : std::move(image);
  }

  const std::string& folder() const { return folder_; }

 private:
  std::string folder_;
  std::unique_ptr<EmojiRenderer> renderer_;
  std::optional<EmojiAssets> assets_;
};

absl::Status MakeFolder(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (!error) return absl::OkStatus();
  return absl::PermissionDeniedError(fmt::format("{}: the folder cannot be made ({})", folder, error.message()));
}

std::string MetadataLine(const EmojiItem& item, const std::string& file, const RenderEmojiOptions& options) {
  nlohmann::json line = {{"file_name", file}, {"text", item.name}};
  if (options.styled) {
    line["text"] = StyledName(item.name, options.style);
    line["name"] = item.name;
    line["keywords"] = item.keywords;
    line["group"] = item.subgroup;
    line["style"] = options.style;
    line["hold"] = item.held_out.empty() ? options.held_out.Why(options.style, item.name) : item.held_out;
  }
  return line.dump() + "\n";
}

}  // namespace

absl::StatusOr<int64_t> RenderEmoji(const std::vector<EmojiItem>& items, const RenderEmojiOptions& options) {
  LOUPE_ASSIGN_OR_RETURN(const StylePictures pictures, StylePictures::Open(options));
  LOUPE_RETURN_IF_ERROR(MakeFolder(options.out_folder));
  std::string metadata;
  int64_t count = 0;
  for (const EmojiItem& item : items) {
    const auto image = pictures.Draw(item, options.side);
    if (absl::IsNotFound(image.status())) continue;
    if (!image.ok()) return Annotate(image.status(), item.name);
    const std::string name = FileName(item);
    const std::string folder = options.by_class ? options.out_folder + "/" + item.subgroup : options.out_folder;
    LOUPE_RETURN_IF_ERROR(MakeFolder(folder));
    LOUPE_RETURN_IF_ERROR(WriteFileIfChanged(folder + "/" + name, io::EncodePng(*image)));
    metadata += MetadataLine(item, name, options);
    ++count;
  }
  if (count == 0) {
    return absl::InvalidArgumentError(
        fmt::format("{}: has none of the {} emoji asked for", pictures.folder(), items.size()));
  }
  if (!options.by_class) {
    LOUPE_RETURN_IF_ERROR(WriteFileIfChanged(options.out_folder + "/metadata.jsonl", metadata));
  }
  return count;
}

}  // namespace loupe::worker::data
