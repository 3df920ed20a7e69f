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

// Shows progress on stdout until the sweep is terminal: a live view on a terminal, of which a summary stays there;
// plain sparse lines elsewhere. Interrupting it (or 'q') leaves the sweep running. Returns an exit code:
// kSweepIncomplete when a trial has no result.
int WatchSweep(const WatchOptions& options);

}  // namespace loupe::cli
