// What the base is trained on: things with names and keywords, drawn in one style or several, and captions made from
// them.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/data/emoji_set.h"

namespace loupe::worker::pretrain {

// The style of photographs, whose captions are "a photo of a thing".
inline constexpr char kPhotoStyle[] = "photo";
// EmojiItem::held_out of a thing that is held out in its style, but not in others.
inline constexpr char kHeldOutPair[] = "pair";

// The pictures split in two. Nothing under training ever reads `held_out`: those items are for measuring only.
struct Corpus {
  std::vector<data::EmojiItem> training;
  std::vector<data::EmojiItem> held_out;  // by EmojiItem::held_out
  std::vector<std::string> files;  // by EmojiItem::index, where the pictures are files; empty: drawn from the font

  // From a list as ReadEmojiItems takes it, with its errors; INVALID_ARGUMENT, too, if nothing is left to train on.
  static absl::StatusOr<Corpus> Read(const std::string& path);
  // From folders of pictures with a metadata.jsonl, as `render-emoji --styled` and `render-photographs` write them.
  // NOT_FOUND from the files; INVALID_ARGUMENT names file and line.
  static absl::StatusOr<Corpus> ReadFolders(const std::vector<std::string>& folders);

  int64_t size() const { return static_cast<int64_t>(training.size() + held_out.size()); }
};

// One of: the name; "a photo of " + name; the name and 1–3 keywords; 1–3 keywords alone (only with `keywords_alone`).
// With a style: one of FixedCaptions.
std::string DrawCaption(const data::EmojiItem& item, bool keywords_alone, std::mt19937_64& random);

// The captions that a precomputed text embedding exists for: the name, "a photo of " + name, and `mixed` draws of name
// + keywords. With a style: "name in noto style" first, "noto emoji of name", the name alone, and `mixed` draws with
// keywords and style; of a photograph "a photo of name", also with its setting, and no bare name.
std::vector<std::string> FixedCaptions(const data::EmojiItem& item, int64_t mixed, std::mt19937_64& random);

// What the item is asked for by, and measured with: the name; with a style "name in noto style"; "a photo of name" with
// its setting.
std::string MainCaption(const data::EmojiItem& item);

// A number in [0, n). The same on every platform, which std::uniform_int_distribution is not.
inline int64_t DrawBelow(int64_t n, std::mt19937_64& random) {
  return static_cast<int64_t>(random() % static_cast<uint64_t>(n));
}

// Items' likeness by shared words of names, keywords and subgroup, each weighted by the logarithm of its rarity: cosine
// of the weighted bags of words, in [0, 1], row-major [n, n] with ones on the diagonal.
std::vector<float> WordLikeness(const std::vector<data::EmojiItem>& items);

}  // namespace loupe::worker::pretrain
