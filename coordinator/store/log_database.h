// What workers logged of their attempts, in a database of its own beside the coordinator's: DATA/logs.db.
//
// It is bounded in itself: an attempt keeps its latest lines, and all attempts together have a size, beyond which those
// that began first go. Nothing in it is worth a wait for the disk: a crash may cost the last moments, and never the
// rest. Not thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/store/sqlite_db.h"

namespace loupe::coordinator::store {

// In every data folder; no part of a backup.
inline constexpr char kLogsFile[] = "/logs.db";

// Stored, and equal to loupe.v1's: do not renumber.
enum class LogLevel { kInfo = 1, kWarning = 2, kError = 3 };

struct LogLine {
  // Counted from 1 in each attempt, by its worker.
  int64_t sequence = 0;
  absl::Time time;
  LogLevel level = LogLevel::kInfo;
  // Printable (common/text.h).
  std::string text;
};

// By the sweep's uid: one that is made again under the name of a deleted sweep has none of its logs.
struct LoggedAttempt {
  std::string sweep_uid;
  int64_t trial = 0;
  int64_t epoch = 0;
  auto operator<=>(const LoggedAttempt&) const = default;
};

struct LogPage {
  std::vector<LogLine> lines;
  // There are more behind the last of them.
  bool more = false;
  // Of the whole attempt: lines that were numbered and are not kept.
  int64_t dropped = 0;
};

class LogDatabase {
 public:
  struct Options {
    std::string path;
    // Of one attempt. What a line and an attempt take besides their text is counted too.
    int64_t attempt_lines = 2000;
    int64_t attempt_bytes = 512 << 10;
    int64_t all_bytes = 256 << 20;
  };

  // Opens or makes the file. DATA_LOSS for a damaged one, FAILED_PRECONDITION for another program's or a newer
  // version's; else the error of SqliteDb::Open.
  static absl::StatusOr<std::unique_ptr<LogDatabase>> Open(const Options& options);

  // Runs `body`, which appends and forgets, as one transaction.
  absl::Status Change(const std::function<absl::Status()>& body);

  // Lines that came under the lease whose digest is `lease`. Those that are known are passed over. Lines under another
  // lease than the attempt's former ones replace these: the coordinator's own database was put back to an earlier
  // state, and the attempt is another one.
  absl::Status Append(const LoggedAttempt& attempt, const std::string& lease, const std::vector<LogLine>& lines);
  absl::Status Forget(const std::string& sweep_uid);
  // Forgets all sweeps but these.
  absl::Status KeepOnly(const std::set<std::string>& sweep_uids);

  // Lines behind number `after`, oldest first: at most `limit`, and with `tail` > 0 only the last `tail` of all these.
  // An attempt that has no log has no lines.
  absl::StatusOr<LogPage> Read(const LoggedAttempt& attempt, int64_t after, int64_t limit, int64_t tail);
  // The number of the attempt's latest line; 0 where it has none.
  absl::StatusOr<int64_t> Last(const LoggedAttempt& attempt);

 private:
  struct Row;
  LogDatabase(Options options, std::unique_ptr<SqliteDb> db) : options_(std::move(options)), db_(std::move(db)) {}

  absl::StatusOr<Row> Find(const LoggedAttempt& attempt);
  absl::Status Trim(Row& row);
  absl::Status TrimAll();
  absl::Status Remove(int64_t key, int64_t bytes);

  const Options options_;
  const std::unique_ptr<SqliteDb> db_;
  int64_t stored_bytes_ = 0;
};

}  // namespace loupe::coordinator::store
