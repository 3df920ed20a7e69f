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

struct ScoreEntry {
  std::string_view name;
  // As tables and plots show it.
  std::string_view title;
  Better better = Better::kLarger;
  // Settings without which (or with 0 in which) there is no such score; the unused ones are empty.
  std::array<std::string_view, 2> needs = {};
  // Whether a sweep may have it as its primary score. The others stand beside one: a spread, a curve, a cost.
  bool primary = true;
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
    // Beside the others of the same network: choices of score.primary would need another version of the settings.
    ScoreEntry{"dino_fd", "FD-DINO", Better::kSmaller, {"score.dino"}, false},
    // Spreads of the kernel distance over its subsets.
    ScoreEntry{"clip_kid_sd", "clip_kid_sd", Better::kSmaller, {}, false},
    ScoreEntry{"clip_kid_class_sd", "clip_kid_class_sd", Better::kSmaller, {"task.class_images"}, false},
    ScoreEntry{"kid_sd", "kid_sd", Better::kSmaller, {"score.inception"}, false},
    // Curves.
    ScoreEntry{"loss", "loss", Better::kSmaller, {}, false},
    ScoreEntry{"validation_loss", "validation_loss", Better::kSmaller, {}, false},
    // What a trial costs.
    ScoreEntry{"parameters", "parameters", Better::kSmaller, {}, false},
    ScoreEntry{"seconds", "seconds", Better::kSmaller, {}, false},
    ScoreEntry{"file_bytes", "file, bytes", Better::kSmaller, {}, false},
};

// The row of a score; of "clip_i_base", the untuned base's, clip_i's. nullptr for a name that is not in the table.
inline constexpr const ScoreEntry* FindScore(std::string_view name) {
  constexpr std::string_view kBase = "_base";
  if (name.size() > kBase.size() && name.substr(name.size() - kBase.size()) == kBase) {
    name.remove_suffix(kBase.size());
  }
  const auto* const found =
      std::find_if(kScores.begin(), kScores.end(), [&](const ScoreEntry& entry) { return entry.name == name; });
  return found == kScores.end() ? nullptr : &*found;
}

}  // namespace loupe
