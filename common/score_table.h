// Every score that a trial can have, in one table: `score.primary`'s choices, what the worker computes, and how reports
// title and rank them. Names are part of the format of results: do not rename.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace loupe {

enum class Better : uint8_t {
  kLarger,
  kSmaller,
};

inline constexpr int32_t kNever = 0;

struct ScoreEntry {
  std::string_view name;
  // As tables and plots show it.
  std::string_view title;
  Better better = Better::kLarger;
  // Settings without which (or with 0 in which) there is no such score; the unused ones are empty.
  std::array<std::string_view, 2> needs = {};
  // The version of the settings since which a sweep may have it as its primary score (settings/settings.h). The others
  // stand beside one: a spread, a curve, a cost.
  int32_t primary_since = 1;

  bool primary() const { return primary_since != kNever; }
};

// Scores come in the order in which `score.primary` offers them. docs/metrics.md defines each.
inline constexpr std::array kScores = {
    ScoreEntry{"clip_i", "CLIP-I"},
    ScoreEntry{"clip_t", "CLIP-T"},
    ScoreEntry{"clip_fid", "CLIP-FID", Better::kSmaller},
    ScoreEntry{"clip_kid", "CLIP-KID", Better::kSmaller},
    ScoreEntry{"clip_fid_class", "clip_fid_class", Better::kSmaller, {"task.class_images"}},
    ScoreEntry{"clip_kid_class", "clip_kid_class", Better::kSmaller, {"task.class_images"}},
    ScoreEntry{"clip_nearest", "clip_nearest"},
    ScoreEntry{"clip_diversity", "clip_diversity"},
    ScoreEntry{"clip_precision", "clip_precision"},
    ScoreEntry{"clip_recall", "clip_recall"},
    ScoreEntry{"clip_pres", "CLIP-PRES", Better::kSmaller, {"score.prior_samples"}},
    ScoreEntry{"clip_div", "clip_div", Better::kLarger, {"score.prior_samples"}},
    ScoreEntry{"noise_difference", "noise_difference", Better::kLarger, {"task.class_images"}},
    ScoreEntry{"dino_i", "DINO", Better::kLarger, {"score.dino"}},
    ScoreEntry{"dino_nearest", "dino_nearest", Better::kLarger, {"score.dino"}},
    ScoreEntry{"dino_diversity", "dino_diversity", Better::kLarger, {"score.dino"}},
    ScoreEntry{"dino_pres", "PRES", Better::kSmaller, {"score.dino", "score.prior_samples"}},
    ScoreEntry{"dino_div", "dino_div", Better::kLarger, {"score.dino", "score.prior_samples"}},
    ScoreEntry{"fid", "FID", Better::kSmaller, {"score.inception"}},
    ScoreEntry{"kid", "KID", Better::kSmaller, {"score.inception"}},
    ScoreEntry{"precision", "precision", Better::kLarger, {"score.inception"}},
    ScoreEntry{"recall", "recall", Better::kLarger, {"score.inception"}},
    ScoreEntry{"clip_cmmd", "CMMD", Better::kSmaller, {}, 4},
    ScoreEntry{"dino_fd", "FD-DINO", Better::kSmaller, {"score.dino"}, 4},
    ScoreEntry{"effnet_i", "EffNet-I", Better::kLarger, {"score.efficientnet"}, 4},
    ScoreEntry{"effnet_nearest", "effnet_nearest", Better::kLarger, {"score.efficientnet"}, 4},
    ScoreEntry{"effnet_diversity", "effnet_diversity", Better::kLarger, {"score.efficientnet"}, 4},
    ScoreEntry{"effnet_fd", "FD-EffNet", Better::kSmaller, {"score.efficientnet"}, 4},
    // Spreads of the kernel distance over its subsets.
    ScoreEntry{"clip_kid_sd", "clip_kid_sd", Better::kSmaller, {}, kNever},
    ScoreEntry{"clip_kid_class_sd", "clip_kid_class_sd", Better::kSmaller, {"task.class_images"}, kNever},
    ScoreEntry{"kid_sd", "kid_sd", Better::kSmaller, {"score.inception"}, kNever},
    // Curves.
    ScoreEntry{"loss", "loss", Better::kSmaller, {}, kNever},
    ScoreEntry{"validation_loss", "validation_loss", Better::kSmaller, {}, kNever},
    // What a trial costs.
    ScoreEntry{"parameters", "parameters", Better::kSmaller, {}, kNever},
    ScoreEntry{"seconds", "seconds", Better::kSmaller, {}, kNever},
    ScoreEntry{"file_bytes", "file, bytes", Better::kSmaller, {}, kNever},
};

// "clip_i_base" is clip_i of the untuned base's pictures.
inline constexpr std::string_view kUntunedSuffix = "_base";

constexpr bool IsUntunedScore(std::string_view name) {
  return name.size() > kUntunedSuffix.size() && name.ends_with(kUntunedSuffix);
}

// The name that it is the untuned base's score of; any other name as it is.
constexpr std::string_view TunedScoreName(std::string_view name) {
  if (IsUntunedScore(name)) name.remove_suffix(kUntunedSuffix.size());
  return name;
}

inline std::string UntunedScoreName(std::string_view tuned) { return std::string(tuned).append(kUntunedSuffix); }

// The row of a score; of the untuned base's, its tuned one's. nullptr for a name that is not in the table.
inline constexpr const ScoreEntry* FindScore(std::string_view name) {
  name = TunedScoreName(name);
  const auto* const found =
      std::find_if(kScores.begin(), kScores.end(), [&](const ScoreEntry& entry) { return entry.name == name; });
  return found == kScores.end() ? nullptr : &*found;
}

}  // namespace loupe
