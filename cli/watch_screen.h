// `loupe watch` on a terminal: what is known of a sweep, as a screen of so many columns and lines. Pure.
//
// From the top: name, counts and time left; a bar with a part for each state; what waits and why; the means as a heat
// map; the best cells; who runs what. Where lines are few, the head stays and the rest shares what is left.
#pragma once

#include <string>
#include <vector>

#include "cli/progress_view.h"
#include "cli/styled_line.h"
#include "cli/sweep_scores.h"

namespace loupe::cli {

struct WatchModel {
  const ProgressView& progress;
  // Null until they are known.
  const SweepScores* scores = nullptr;
  // In the last line, before how to leave: "lost the coordinator; …".
  std::string notice;
};

// At most `height` lines, none wider than `width`. The last of a full screen says how to leave.
std::vector<StyledLine> WatchScreen(const WatchModel& model, int width, int height);

// What stays on the terminal afterwards: the head, all of the map and the best cells.
std::vector<StyledLine> WatchSummary(const WatchModel& model, int width);

}  // namespace loupe::cli
