// The built-in data set: which emoji there are, under which names, and how to write a family of them as image files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace loupe::worker::data {

struct EmojiItem {
  std::vector<uint32_t> code_points;
  std::string name;                   // Unicode's, lower case: "grinning cat"
  std::vector<std::string> keywords;  // CLDR's
  std::string subgroup;               // Unicode's: "cat-face"
  std::string held_out;               // not empty: no base was trained on it ("cat", "monkey", "pair", "style")
  int64_t index = 0;                  // place in the list
  std::string style = {};             // who drew it; empty: the list's own, which captions do not name
  std::string setting = {};           // of a photograph: "on wood"
};

// Leaves a file alone that has these bytes already: its time says when it changed.
absl::Status WriteFileIfChanged(const std::string& path, const std::string& bytes);

// From items.json beside the built-in base. NOT_FOUND from the file; INVALID_ARGUMENT names file and entry.
absl::StatusOr<std::vector<EmojiItem>> ReadEmojiItems(const std::string& path);

// The items of one family: "all", "training" (none held out), "cat-faces", "monkeys", or one of Unicode's subgroups
// ("face-smiling"). INVALID_ARGUMENT lists the families when there is no such one.
absl::StatusOr<std::vector<EmojiItem>> SelectEmojiFamily(const std::vector<EmojiItem>& items,
                                                         const std::string& family);

// What a base never sees in training, besides the families that the list of items marks: whole styles, and of the
// others a share of all (style, thing) pairs, chosen by a hash of their names, so that a longer list of things moves
// none of those that it had.
struct HeldOutRule {
  std::vector<std::string> styles;
  double pairs_share = 0;

  // From configs/bases/held-out.json: {"styles": ["gemojione"], "pairs_share": 0.1}. INVALID_ARGUMENT names the key.
  static absl::StatusOr<HeldOutRule> Read(const std::string& path);

  // "style", "pair" or nothing.
  std::string Why(const std::string& style, const std::string& thing) const;
};

// "grinning face in noto style"
std::string StyledName(const std::string& name, const std::string& style);

struct RenderEmojiOptions {
  std::string style = "noto";     // one of EmojiStyles()
  std::string font_path;          // of noto
  std::string asset_folder = {};  // of the others; empty: the style's own
  std::string out_folder;         // made if need be
  int side = 64;
  // Captions say the style, and each line of metadata.jsonl has what pretraining reads, too: "name", "keywords",
  // "group", "style", and "hold", which is the item's own or the rule's reason.
  bool styled = false;
  HeldOutRule held_out = {};
  // Each in a folder named as its Unicode subgroup, which is its class; no metadata.jsonl.
  bool by_class = false;
};

// Writes "{index:04}-{name}.png" for each item and metadata.jsonl with {"file_name", "text"} for each, as Hugging
// Face's imagefolder has it, or a folder per class, as that has it too. Emoji that a folder of pictures does not have
// are passed over. Files that are there already with the same bytes are left alone. Returns how many pictures;
// INVALID_ARGUMENT when there would be none, or no such style.
absl::StatusOr<int64_t> RenderEmoji(const std::vector<EmojiItem>& items, const RenderEmojiOptions& options);

}  // namespace loupe::worker::data
