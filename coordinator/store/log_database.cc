#include "coordinator/store/log_database.h"

#include <algorithm>
#include <utility>

#include "common/status_macros.h"
#include "coordinator/store/file_mark.h"

namespace loupe::coordinator::store {
namespace {

constexpr int kLogsApplicationId = 0x4c6f474c;
constexpr int kLogsVersion = 1;
// Of a row besides its text, with its index: about what SQLite takes.
constexpr int64_t kLineBytes = 32;
constexpr int64_t kAttemptBytes = 160;
// A log that is full gives up a tenth at once, not a line with each line.
constexpr int64_t kKeptOfTen = 9;

// In WAL mode: a commit waits for no disk, and what is lost in a power cut is the end, never the middle.
constexpr char kLogPragmasSql[] =
    "PRAGMA synchronous=NORMAL; PRAGMA cache_size=-4096; PRAGMA journal_size_limit=4194304;";
constexpr char kLogSchemaSql[] = R"sql(
CREATE TABLE attempts (
  attempt_key INTEGER PRIMARY KEY,
  sweep_uid TEXT NOT NULL,
  trial_index INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  lease_sha256 TEXT NOT NULL,
  last_sequence INTEGER NOT NULL,
  lines INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  UNIQUE (sweep_uid, trial_index, epoch)
) STRICT;

CREATE TABLE lines (
  attempt_key INTEGER NOT NULL REFERENCES attempts ON DELETE CASCADE,
  sequence INTEGER NOT NULL,
  time_us INTEGER NOT NULL,
  level INTEGER NOT NULL CHECK (level BETWEEN 1 AND 3),
  text TEXT NOT NULL,
  PRIMARY KEY (attempt_key, sequence)
) STRICT, WITHOUT ROWID;
)sql";

constexpr char kSumSql[] = "SELECT coalesce(sum(bytes), 0) FROM attempts";
constexpr char kFindSql[] =
    "SELECT attempt_key, lease_sha256, last_sequence, lines, bytes FROM attempts "
    "WHERE sweep_uid = ? AND trial_index = ? AND epoch = ?";
constexpr char kInsertAttemptSql[] =
    "INSERT INTO attempts (sweep_uid, trial_index, epoch, lease_sha256, last_sequence, lines, bytes) "
    "VALUES (?, ?, ?, ?, 0, 0, 0)";
constexpr char kUpdateAttemptSql[] =
    "UPDATE attempts SET last_sequence = ?, lines = ?, bytes = ? WHERE attempt_key = ?";
constexpr char kInsertLineSql[] =
    "INSERT INTO lines (attempt_key, sequence, time_us, level, text) VALUES (?, ?, ?, ?, ?)";
constexpr char kSizesSql[] =
    "SELECT sequence, length(CAST(text AS BLOB)) FROM lines WHERE attempt_key = ? ORDER BY sequence LIMIT ?";
constexpr char kTrimSql[] = "DELETE FROM lines WHERE attempt_key = ? AND sequence <= ?";
constexpr char kRemoveSql[] = "DELETE FROM attempts WHERE attempt_key = ?";
constexpr char kOldestSql[] = "SELECT attempt_key, bytes FROM attempts ORDER BY attempt_key LIMIT ?";
constexpr char kOfSweepSql[] = "SELECT attempt_key, bytes FROM attempts WHERE sweep_uid = ? ORDER BY attempt_key";
constexpr char kSweepsSql[] = "SELECT DISTINCT sweep_uid FROM attempts ORDER BY sweep_uid";
constexpr char kLinesSql[] =
    "SELECT sequence, time_us, level, text FROM lines WHERE attempt_key = ? AND sequence > ? ORDER BY sequence LIMIT ?";
constexpr char kTailSql[] =
    "SELECT coalesce(min(sequence), 0) FROM "
    "(SELECT sequence FROM lines WHERE attempt_key = ? AND sequence > ? ORDER BY sequence DESC LIMIT ?)";

}  // namespace

struct LogDatabase::Row {
  int64_t key = 0;  // 0: there is none
  std::string lease;
  int64_t last = 0;
  int64_t lines = 0;
  int64_t bytes = 0;
};

absl::StatusOr<std::unique_ptr<LogDatabase>> LogDatabase::Open(const Options& options) {
  LOUPE_ASSIGN_OR_RETURN(std::unique_ptr<SqliteDb> db,
                         SqliteDb::Open(options.path, SqliteDb::Mode::kReadWriteCreate, ""));
  LOUPE_RETURN_IF_ERROR(db->Execute(kLogPragmasSql));
  LOUPE_RETURN_IF_ERROR(
      MakeOrCheckSchema(*db, {kLogsApplicationId, kLogsVersion, kLogSchemaSql, "a database of logs"}));
  std::unique_ptr<LogDatabase> logs(new LogDatabase(options, std::move(db)));
  LOUPE_RETURN_IF_ERROR(logs->db_->ForEach(kSumSql, [&](const SqliteRow& row) { logs->stored_bytes_ = row.Int(0); }));
  return logs;
}

absl::Status LogDatabase::Change(const std::function<absl::Status()>& body) {
  const int64_t before = stored_bytes_;
  const absl::Status status = db_->WithTransaction("BEGIN IMMEDIATE", [&]() -> absl::Status {
    LOUPE_RETURN_IF_ERROR(body());
    return TrimAll();
  });
  if (!status.ok()) stored_bytes_ = before;
  return status;
}

absl::StatusOr<LogDatabase::Row> LogDatabase::Find(const LoggedAttempt& attempt) {
  Row found;
  LOUPE_RETURN_IF_ERROR(db_->ForEach(
      kFindSql,
      [&](const SqliteRow& row) {
        found = {row.Int(0), row.Text(1), row.Int(2), row.Int(3), row.Int(4)};
      },
      std::string_view(attempt.sweep_uid), attempt.trial, attempt.epoch));
  return found;
}

absl::Status LogDatabase::Append(const LoggedAttempt& attempt, const std::string& lease,
                                 const std::vector<LogLine>& lines) {
  LOUPE_ASSIGN_OR_RETURN(Row row, Find(attempt));
  if (row.key != 0 && row.lease != lease) {
    LOUPE_RETURN_IF_ERROR(Remove(row.key, row.bytes));
    row = {};
  }
  if (row.key == 0) {
    LOUPE_RETURN_IF_ERROR(db_->Run(kInsertAttemptSql, std::string_view(attempt.sweep_uid), attempt.trial, attempt.epoch,
                                   std::string_view(lease)));
    row.key = sqlite3_last_insert_rowid(db_->handle());
    row.bytes = kAttemptBytes;
    stored_bytes_ += kAttemptBytes;
  }
  for (const LogLine& line : lines) {
    if (line.sequence <= row.last) continue;
    LOUPE_RETURN_IF_ERROR(db_->Run(kInsertLineSql, row.key, line.sequence, line.time, static_cast<int32_t>(line.level),
                                   std::string_view(line.text)));
    const auto bytes = kLineBytes + static_cast<int64_t>(line.text.size());
    row.last = line.sequence;
    ++row.lines;
    row.bytes += bytes;
    stored_bytes_ += bytes;
  }
  LOUPE_RETURN_IF_ERROR(Trim(row));
  return db_->Run(kUpdateAttemptSql, row.last, row.lines, row.bytes, row.key);
}

absl::Status LogDatabase::Trim(Row& row) {
  if (row.lines <= options_.attempt_lines && row.bytes <= options_.attempt_bytes) return absl::OkStatus();
  const int64_t keep_lines = options_.attempt_lines * kKeptOfTen / 10;
  const int64_t keep_bytes = options_.attempt_bytes * kKeptOfTen / 10;
  int64_t cut = 0;
  const int64_t before = row.bytes;
  LOUPE_RETURN_IF_ERROR(db_->ForEach(
      kSizesSql,
      [&](const SqliteRow& line) {
        if (row.lines <= keep_lines && row.bytes <= keep_bytes) return;
        cut = line.Int(0);
        --row.lines;
        row.bytes -= kLineBytes + line.Int(1);
      },
      row.key, row.lines));
  stored_bytes_ -= before - row.bytes;
  return db_->Run(kTrimSql, row.key, cut);
}

absl::Status LogDatabase::TrimAll() {
  if (stored_bytes_ <= options_.all_bytes) return absl::OkStatus();
  while (stored_bytes_ > options_.all_bytes * kKeptOfTen / 10) {
    constexpr int64_t kAtOnce = 100;
    std::vector<std::pair<int64_t, int64_t>> oldest;
    LOUPE_RETURN_IF_ERROR(db_->ForEach(
        kOldestSql, [&](const SqliteRow& row) { oldest.emplace_back(row.Int(0), row.Int(1)); }, kAtOnce));
    if (oldest.empty()) return absl::OkStatus();
    for (const auto& [key, bytes] : oldest) {
      LOUPE_RETURN_IF_ERROR(Remove(key, bytes));
      if (stored_bytes_ <= options_.all_bytes * kKeptOfTen / 10) break;
    }
  }
  return absl::OkStatus();
}

absl::Status LogDatabase::Remove(int64_t key, int64_t bytes) {
  stored_bytes_ -= bytes;
  return db_->Run(kRemoveSql, key);
}

absl::Status LogDatabase::Forget(const std::string& sweep_uid) {
  std::vector<std::pair<int64_t, int64_t>> attempts;
  LOUPE_RETURN_IF_ERROR(db_->ForEach(
      kOfSweepSql, [&](const SqliteRow& row) { attempts.emplace_back(row.Int(0), row.Int(1)); },
      std::string_view(sweep_uid)));
  for (const auto& [key, bytes] : attempts) LOUPE_RETURN_IF_ERROR(Remove(key, bytes));
  return absl::OkStatus();
}

absl::Status LogDatabase::KeepOnly(const std::set<std::string>& sweep_uids) {
  std::vector<std::string> gone;
  LOUPE_RETURN_IF_ERROR(db_->ForEach(kSweepsSql, [&](const SqliteRow& row) {
    if (std::string uid = row.Text(0); !sweep_uids.contains(uid)) gone.push_back(std::move(uid));
  }));
  for (const std::string& uid : gone) LOUPE_RETURN_IF_ERROR(Forget(uid));
  return absl::OkStatus();
}

absl::StatusOr<LogPage> LogDatabase::Read(const LoggedAttempt& attempt, int64_t after, int64_t limit, int64_t tail) {
  LogPage page;
  LOUPE_ASSIGN_OR_RETURN(const Row row, Find(attempt));
  if (row.key == 0) return page;
  page.dropped = row.last - row.lines;
  if (tail > 0) {
    int64_t first = 0;
    LOUPE_RETURN_IF_ERROR(db_->ForEach(
        kTailSql, [&](const SqliteRow& found) { first = found.Int(0); }, row.key, after, tail));
    after = std::max(after, first - 1);
  }
  LOUPE_RETURN_IF_ERROR(db_->ForEach(
      kLinesSql,
      [&](const SqliteRow& line) {
        page.lines.push_back({line.Int(0), line.Time(1), static_cast<LogLevel>(line.Int32(2)), line.Text(3)});
      },
      row.key, after, limit + 1));
  page.more = static_cast<int64_t>(page.lines.size()) > limit;
  if (page.more) page.lines.pop_back();
  return page;
}

absl::StatusOr<int64_t> LogDatabase::Last(const LoggedAttempt& attempt) {
  LOUPE_ASSIGN_OR_RETURN(const Row row, Find(attempt));
  return row.last;
}

}  // namespace loupe::coordinator::store
