// The Store in one SQLite file in WAL mode.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/store/data_guard.h"
#include "coordinator/store/sqlite_db.h"
#include "coordinator/store/store.h"

namespace loupe::coordinator::store {

// Owns the only connection that writes and checkpoints; readers get read-only connections from a pool.
// (SQLite before 3.51.3 can corrupt a WAL that two connections write or checkpoint at once: there are never two.)
class SqliteStore final : public Store {
 public:
  struct Options {
    std::string path;
    // Name of a registered SQLite VFS; empty means the system's. Tests inject faults here.
    std::string vfs;
    // Told when the database's own file has been written. May be empty.
    std::function<void()> on_checkpoint;
  };

  // Opens or creates the file and migrates it. The caller holds the data folder's LockFile. Errors: those of
  // SqliteDb::Open and Migrate; nothing is changed by a refused open.
  static absl::StatusOr<std::unique_ptr<SqliteStore>> Open(const Options& options);

  // For reading beside the process that writes: Commit is FAILED_PRECONDITION. NOT_FOUND when there is no such file.
  static absl::StatusOr<std::unique_ptr<SqliteStore>> OpenToRead(const Options& options);

  absl::Status Commit(const scheduler::Effects& effects) override;
  absl::Status Recover(RecoverySink& sink) override;
  absl::StatusOr<scheduler::SweepRecord> GetSweep(const std::string& id) override;
  absl::StatusOr<std::vector<scheduler::SweepRecord>> ListSweeps(scheduler::SweepKey before, int64_t limit) override;
  absl::StatusOr<scheduler::TrialCounts> CountTrials(scheduler::SweepKey sweep) override;
  absl::StatusOr<TrialRow> GetTrial(scheduler::TrialKey trial) override;
  absl::StatusOr<std::vector<TrialRow>> ListTrials(scheduler::SweepKey sweep, const TrialFilter& filter) override;
  absl::StatusOr<std::string> GetCellLevelsJson(scheduler::SweepKey sweep, int64_t cell) override;
  absl::StatusOr<std::vector<int64_t>> FindTrials(scheduler::SweepKey sweep,
                                                  const std::set<TrialState>& states) override;
  absl::StatusOr<std::vector<scheduler::MetricPoint>> ListPoints(scheduler::TrialKey trial, int64_t epoch,
                                                                 const std::string& metric,
                                                                 const std::optional<PointPosition>& after,
                                                                 int64_t limit) override;
  absl::StatusOr<std::vector<AttemptRow>> ListAttempts(const AttemptFilter& filter) override;
  absl::StatusOr<TrialColumns> ReadColumns(scheduler::SweepKey sweep, int64_t first, int64_t limit) override;
  absl::StatusOr<std::vector<ResultSeconds>> ListResultSeconds(scheduler::SweepKey sweep, int64_t limit) override;
  absl::StatusOr<ScoreSummary> SummariseScore(scheduler::SweepKey sweep, const std::string& score,
                                              bool smaller_is_better) override;
  absl::StatusOr<int64_t> CountAcceptedSince(scheduler::SweepKey sweep, absl::Time since) override;
  absl::StatusOr<std::map<std::string, std::string>> GetProvenance(scheduler::TrialKey trial) override;
  absl::StatusOr<std::vector<scheduler::ArtifactRecord>> ListArtifacts(scheduler::TrialKey trial) override;
  absl::StatusOr<scheduler::ArtifactRecord> GetArtifact(scheduler::TrialKey trial, int64_t epoch,
                                                        const std::string& name) override;
  absl::StatusOr<SweepSnapshot> Snapshot(const std::string& sweep_id) override;

 private:
  SqliteStore(Options options, std::unique_ptr<SqliteDb> writer);

  // FAILED_PRECONDITION when the database's file is no longer the one that was opened: what is written now would be
  // lost.
  absl::Status CheckFile() const;
  // After a commit: one that went into a log that somebody has removed is brought into the database, and the log begun
  // anew.
  absl::Status CheckLog();
  static int OnCommitted(void* self, sqlite3* db, const char* schema, int pages);

  // Runs `body(db)` inside one read transaction on a pooled read-only connection.
  template <typename Body>
  absl::Status Read(Body body);

  const Options options_;
  // Null in a store that was opened to read.
  std::unique_ptr<SqliteDb> writer_;
  // What was opened; unset where another VFS keeps the files. The writer's thread only.
  std::optional<FileIdentity> file_;
  std::optional<FileIdentity> log_;
  // Size of the WAL at which the next alarm is given; the writer's thread only.
  int alarm_pages_ = 0;
  std::mutex mutex_;
  std::vector<std::unique_ptr<SqliteDb>> idle_readers_;
  // Readers of an earlier log are not used again.
  int64_t log_number_ = 0;
};

}  // namespace loupe::coordinator::store
