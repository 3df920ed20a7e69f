// What the base is trained on: a list of emoji with names and keywords, and captions made from them.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/data/emoji_set.h"

namespace loupe::worker {

// The list split in two. Nothing under training ever reads `held_out`: those items are for measuring only.
struct Corpus {
  std::vector<EmojiItem> training;
  std::vector<EmojiItem> held_out;  // by EmojiItem::held_out

  // From a list as ReadEmojiItems takes it, with its errors; INVALID_ARGUMENT, too, if nothing is left to train on.
  static absl::StatusOr<Corpus> Read(const std::string& path);

  int64_t size() const { return static_cast<int64_t>(training.size() + held_out.size()); }
};

// One of: the name; "a photo of " + name; the name and 1–3 keywords; 1–3 keywords alone (only with `keywords_alone`).
std::string DrawCaption(const EmojiItem& item, bool keywords_alone, std::mt19937_64& random);

// The captions that a precomputed text embedding exists for: the name, "a photo of " + name, and `mixed` draws of name
// + keywords.
std::vector<std::string> FixedCaptions(const EmojiItem& item, int64_t mixed, std::mt19937_64& random);

// A number in [0, n). The same on every platform, which std::uniform_int_distribution is not.
inline int64_t DrawBelow(int64_t n, std::mt19937_64& random) {
  return static_cast<int64_t>(random() % static_cast<uint64_t>(n));
}

// Items' likeness by shared words of names, keywords and subgroup, each weighted by the logarithm of its rarity: cosine
// of the weighted bags of words, in [0, 1], row-major [n, n] with ones on the diagonal.
std::vector<float> WordLikeness(const std::vector<EmojiItem>& items);

}  // namespace loupe::worker
