// Following a sweep to its end.
#pragma once

#include <string>

#include "absl/time/time.h"
#include "cli/connect.h"

namespace loupe::cli {

struct WatchOptions {
  ConnectFlags connect;
  // Bare id or resource name.
  std::string sweep;
  // JSON: one object per line and message.
  bool json = false;
  // Off a terminal: the least time between two lines while no trial ends (five seconds where some do).
  absl::Duration quiet = absl::Seconds(30);
  // How long a coordinator may be away (a restart) before the command gives up.
  absl::Duration patience = absl::Minutes(2);
};

// Shows progress on stdout until the sweep is terminal: a few lines that are drawn anew on a terminal, plain sparse
// lines elsewhere. Interrupting it leaves the sweep running. Returns an exit code: kSweepIncomplete when a trial has no
// result.
int WatchSweep(const WatchOptions& options);

}  // namespace loupe::cli
