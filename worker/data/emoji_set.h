// The built-in data set: which emoji there are, under which names, and how to write a family of them as image files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace loupe::worker {

struct EmojiItem {
  std::vector<uint32_t> code_points;
  std::string name;                   // Unicode's, lower case: "grinning cat"
  std::vector<std::string> keywords;  // CLDR's
  std::string subgroup;               // Unicode's: "cat-face"
  std::string held_out;               // not empty: no base was trained on it ("cat", "monkey")
  int64_t index = 0;                  // place in the list
};

// From items.json beside the built-in base. NOT_FOUND from the file; INVALID_ARGUMENT names file and entry.
absl::StatusOr<std::vector<EmojiItem>> ReadEmojiItems(const std::string& path);

// The items of one family: "all", "training" (none held out), "cat-faces", "monkeys", or one of Unicode's subgroups
// ("face-smiling"). INVALID_ARGUMENT lists the families when there is no such one.
absl::StatusOr<std::vector<EmojiItem>> SelectEmojiFamily(const std::vector<EmojiItem>& items,
                                                         const std::string& family);

struct RenderEmojiOptions {
  std::string font_path;
  std::string out_folder;  // made if need be
  int side = 64;
  // Not empty: the pictures come from this folder (emoji_assets.h) and not from the font; emoji that it does not have
  // are passed over.
  std::string asset_folder = {};
};

// Writes "{index:04}-{name}.png" for each item and metadata.jsonl with {"file_name", "text"} for each, as Hugging
// Face's imagefolder has it. Files that are there already with the same bytes are left alone. Returns how many
// pictures; INVALID_ARGUMENT when there would be none.
absl::StatusOr<int64_t> RenderEmoji(const std::vector<EmojiItem>& items, const RenderEmojiOptions& options);

}  // namespace loupe::worker
