// Copies of a data folder at regular times, the oldest of which go.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/store/data_folder.h"

namespace loupe::coordinator::store::upkeep {

struct SnapshotOptions {
  std::string data_folder;
  // Where the snapshots lie: one folder each, named after its time ("loupe-20261122T090000Z"). Made where it is
  // missing.
  std::string to;
  absl::Duration every = absl::Hours(1);
  // How many are kept. Only folders with such a name are ever removed, and only after a newer one is complete (what a
  // kill left of an unfinished one goes before the next). One folder is for the snapshots of one coordinator.
  int keep = 24;
};

// The value of --backup-every ("90s", "15m", "1h"). INVALID_ARGUMENT, naming the option, for what is no time or less
// than a second.
absl::StatusOr<absl::Duration> ParseSnapshotInterval(const std::string& text);

// Times of the complete snapshots in `folder`, oldest first; what is not a snapshot is passed over. Empty when there is
// no such folder.
absl::StatusOr<std::vector<absl::Time>> ListSnapshots(const std::string& folder);

// Makes one named after `now` and removes those beyond `keep`. Files that the latest snapshot has already are shared
// with it (hard links): an artifact never changes. Errors as BackupData's.
absl::Status TakeSnapshot(const SnapshotOptions& options, absl::Time now, const ProgressFn& progress = nullptr);

// When the next one is due: `every` after the latest, at once when there is none. A restart does not put it off.
absl::Time NextSnapshotTime(const SnapshotOptions& options, const std::vector<absl::Time>& taken, absl::Time now);

// Takes them on a thread of its own until it is destroyed, which cuts one that is under way short. A snapshot that
// fails is logged and tried again after a tenth of the interval.
class SnapshotThread {
 public:
  explicit SnapshotThread(SnapshotOptions options);
  ~SnapshotThread();
  SnapshotThread(const SnapshotThread&) = delete;
  SnapshotThread& operator=(const SnapshotThread&) = delete;

 private:
  void Loop();
  // Takes one if it is time; how long until the next is.
  absl::Duration Turn(absl::Time now);

  const SnapshotOptions options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

}  // namespace loupe::coordinator::store::upkeep
