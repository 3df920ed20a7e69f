#include "coordinator/store/sqlite_store.h"

#include <unistd.h>

#include <climits>
#include <utility>

#include "common/error_details.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "coordinator/scheduler/sweep_transitions.h"
#include "coordinator/store/migrations.h"
#include "coordinator/store/tables/artifacts_table.h"
#include "coordinator/store/tables/attempts_table.h"
#include "coordinator/store/tables/jobs_table.h"
#include "coordinator/store/tables/metric_points_table.h"
#include "coordinator/store/tables/requests_table.h"
#include "coordinator/store/tables/results_table.h"
#include "coordinator/store/tables/sweeps_table.h"
#include "coordinator/store/tables/trials_table.h"
#include "coordinator/store/tables/workers_table.h"
#include "fmt/format.h"

namespace loupe::coordinator::store {
namespace {

// One overload per effect; std::visit makes sure that none is forgotten.
struct Writer {
  SqliteDb& db;

  absl::Status operator()(const scheduler::InsertSweep& effect) const {
    LOUPE_RETURN_IF_ERROR(sweeps_table::Insert(db, effect.sweep));
    if (!effect.cell_levels_json) return absl::OkStatus();
    return trials_table::Insert(
        db, {effect.sweep.key, effect.sweep.cells, 0, effect.sweep.trials(), effect.cell_levels_json});
  }
  absl::Status operator()(const scheduler::InsertTrials& effect) const { return trials_table::Insert(db, effect); }
  absl::Status operator()(const scheduler::UpdateSweep& effect) const {
    return sweeps_table::UpdateState(db, effect.sweep);
  }
  absl::Status operator()(const scheduler::PurgeSweep& effect) const {
    LOUPE_ASSIGN_OR_RETURN(const bool gone, jobs_table::Purge(db, effect.sweep, effect.most_rows));
    if (effect.report) effect.report(gone);
    return absl::OkStatus();
  }
  absl::Status operator()(const scheduler::PutJob& effect) const { return jobs_table::Put(db, effect); }
  absl::Status operator()(const scheduler::EndJob& effect) const { return jobs_table::Remove(db, effect.sweep); }
  absl::Status operator()(const scheduler::UpdateTrial& effect) const { return trials_table::Update(db, effect); }
  absl::Status operator()(const scheduler::CancelQueuedTrials& effect) const {
    return trials_table::CancelQueued(db, effect);
  }
  absl::Status operator()(const scheduler::StartAttempt& effect) const { return attempts_table::Insert(db, effect); }
  absl::Status operator()(const scheduler::EndAttempt& effect) const { return attempts_table::End(db, effect); }
  absl::Status operator()(const scheduler::AcceptResult& effect) const { return results_table::Insert(db, effect); }
  absl::Status operator()(const scheduler::RecordInput& effect) const { return results_table::InsertInput(db, effect); }
  absl::Status operator()(const scheduler::NoteRung& effect) const {
    return metric_points_table::InsertRung(db, effect);
  }
  absl::Status operator()(const scheduler::KeepSupersededResult& effect) const {
    return attempts_table::KeepSuperseded(db, effect);
  }
  absl::Status operator()(const scheduler::AppendPoints& effect) const {
    LOUPE_RETURN_IF_ERROR(metric_points_table::Append(db, effect));
    return attempts_table::SetPointSequence(db, effect.trial, effect.epoch, effect.sequence);
  }
  absl::Status operator()(const scheduler::RecordArtifact& effect) const { return artifacts_table::Upsert(db, effect); }
  absl::Status operator()(const scheduler::UpsertWorker& effect) const {
    return workers_table::Upsert(db, effect.worker);
  }
  absl::Status operator()(const scheduler::CountWorker& effect) const { return workers_table::Count(db, effect); }
  absl::Status operator()(const scheduler::ForgetWorker& effect) const {
    return workers_table::Delete(db, effect.worker);
  }
  absl::Status operator()(const scheduler::RecordRequest& effect) const { return requests_table::Insert(db, effect); }
};

absl::Status AddScores(SqliteDb& db, scheduler::SweepKey sweep, std::vector<TrialRow>& trials) {
  if (trials.empty()) return absl::OkStatus();
  size_t at = 0;
  return results_table::ForEachScore(db, sweep, trials.front().index, trials.back().index,
                                     [&](int64_t index, std::string name, double value) {
                                       while (at < trials.size() && trials[at].index < index) ++at;
                                       if (at < trials.size() && trials[at].index == index) {
                                         trials[at].scores.emplace(std::move(name), value);
                                       }
                                     });
}

// 4,000 pages of 4 KiB: the WAL stays near 16 MiB unless a reader holds an old snapshot.
constexpr int kCheckpointPages = 4000;
// 256 MiB: then somebody has been reading one snapshot for very long.
constexpr int kAlarmPages = 65536;

}  // namespace

SqliteStore::SqliteStore(Options options, std::unique_ptr<SqliteDb> writer)
    : options_(std::move(options)), writer_(std::move(writer)) {}

absl::StatusOr<std::unique_ptr<SqliteStore>> SqliteStore::Open(const Options& options) {
  LOUPE_ASSIGN_OR_RETURN(std::unique_ptr<SqliteDb> writer,
                         SqliteDb::Open(options.path, SqliteDb::Mode::kReadWriteCreate, options.vfs));
  LOUPE_RETURN_IF_ERROR(Migrate(*writer));
  std::unique_ptr<SqliteStore> store(new SqliteStore(options, std::move(writer)));
  sqlite3_wal_hook(store->writer_->handle(), &SqliteStore::OnCommitted, store.get());
  if (options.vfs.empty()) store->file_ = IdentityOf(options.path);
  return store;
}

absl::Status SqliteStore::CheckFile() const {
  if (!file_ || IdentityOf(options_.path) == file_) return absl::OkStatus();
  return WithReason(
      absl::FailedPreconditionError(fmt::format(
          "the database '{0}' was removed or replaced while the coordinator runs: nothing is accepted any more. What it holds is still in "
          "the file that process {1} has open: copy /proc/{1}/fd/N, where N is the number that 'ls -l /proc/{1}/fd' shows for '{0}', "
          "and the one for '{0}-wal', back to their places, then start the coordinator again",
          options_.path, ::getpid())),
      kReasonStoreUnavailable);
}

absl::Status SqliteStore::CheckLog() {
  if (!file_) return absl::OkStatus();
  LOUPE_RETURN_IF_ERROR(CheckFile());
  const std::string path = options_.path + "-wal";
  const std::optional<FileIdentity> now = IdentityOf(path);
  if (!log_) log_ = now;
  if (now && now == log_) return absl::OkStatus();
  LogError(
      "'{}' was removed or replaced while the coordinator runs: its commits are taken over into the database, and it is begun anew",
      path);
  const int result = sqlite3_wal_checkpoint_v2(writer_->handle(), nullptr, SQLITE_CHECKPOINT_FULL, nullptr, nullptr);
  if (result != SQLITE_OK) {
    return WithReason(absl::UnavailableError(fmt::format("the commits of the removed '{}' cannot be taken over: {}",
                                                         path, sqlite3_errmsg(writer_->handle()))),
                      kReasonStoreUnavailable);
  }
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    idle_readers_.clear();
    ++log_number_;
  }
  // What is left under these names belongs to no commit.
  writer_.reset();
  ::unlink(path.c_str());
  ::unlink((options_.path + "-shm").c_str());
  log_.reset();
  LOUPE_ASSIGN_OR_RETURN(writer_, SqliteDb::Open(options_.path, SqliteDb::Mode::kReadWrite, options_.vfs));
  sqlite3_wal_hook(writer_->handle(), &SqliteStore::OnCommitted, this);
  if (options_.on_checkpoint) options_.on_checkpoint();
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<SqliteStore>> SqliteStore::OpenToRead(const Options& options) {
  std::unique_ptr<SqliteStore> store(new SqliteStore(options, nullptr));
  LOUPE_RETURN_IF_ERROR(store->Read([](SqliteDb& db) { return StoredSchemaVersion(db).status(); }));
  return store;
}

// In place of SQLite's own hook, which does the same without the alarm.
int SqliteStore::OnCommitted(void* self, sqlite3* db, const char*, int pages) {
  auto& store = *static_cast<SqliteStore*>(self);
  if (pages >= kCheckpointPages) {
    sqlite3_wal_checkpoint_v2(db, nullptr, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr);
    if (store.options_.on_checkpoint) store.options_.on_checkpoint();
  }
  if (pages < kAlarmPages) {
    store.alarm_pages_ = kAlarmPages;
  } else if (pages >= store.alarm_pages_) {
    store.alarm_pages_ = pages > INT_MAX / 2 ? INT_MAX : 2 * pages;
    LogWarning(
        "'{}-wal' has grown to {} MiB: somebody reads an old snapshot of the database, and it grows until that reader ends",
        store.options_.path, pages / 256);
  }
  return SQLITE_OK;
}

absl::Status SqliteStore::Commit(const scheduler::Effects& effects) {
  if (effects.empty()) return absl::OkStatus();
  if (writer_ == nullptr)
    return absl::FailedPreconditionError(
        "the store cannot be written: it was opened to read, or could not be opened again");
  LOUPE_RETURN_IF_ERROR(CheckFile());
  LOUPE_RETURN_IF_ERROR(writer_->WithTransaction("BEGIN IMMEDIATE", [&]() -> absl::Status {
    for (const scheduler::Effect& effect : effects) LOUPE_RETURN_IF_ERROR(std::visit(Writer{*writer_}, effect));
    return absl::OkStatus();
  }));
  return CheckLog();
}

template <typename Body>
absl::Status SqliteStore::Read(Body body) {
  std::unique_ptr<SqliteDb> reader;
  int64_t log_number = 0;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    log_number = log_number_;
    if (!idle_readers_.empty()) {
      reader = std::move(idle_readers_.back());
      idle_readers_.pop_back();
    }
  }
  if (!reader) {
    LOUPE_ASSIGN_OR_RETURN(reader, SqliteDb::Open(options_.path, SqliteDb::Mode::kReadOnly, options_.vfs));
  }
  const absl::Status status = reader->WithTransaction("BEGIN", [&] { return body(*reader); });
  // A connection that met a hard error is not used again.
  if (status.ok() || absl::IsNotFound(status) || absl::IsFailedPrecondition(status)) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (log_number == log_number_) idle_readers_.push_back(std::move(reader));
  }
  return status;
}

absl::Status SqliteStore::Recover(RecoverySink& sink) {
  return Read([&](SqliteDb& db) -> absl::Status {
    std::vector<scheduler::SweepRecord> sweeps;
    LOUPE_RETURN_IF_ERROR(
        sweeps_table::ForEachByKey(db, [&](scheduler::SweepRecord sweep) { sweeps.push_back(std::move(sweep)); }));
    for (scheduler::SweepRecord& sweep : sweeps) {
      const scheduler::SweepKey key = sweep.key;
      const bool going = sweep.has_job(scheduler::JobKind::kDelete);
      sink.OnSweep(std::move(sweep));
      if (going) continue;
      LOUPE_RETURN_IF_ERROR(
          trials_table::ForEachSeed(db, key, [&](const TrialSeed& trial) { sink.OnTrial(key, trial); }));
    }
    LOUPE_RETURN_IF_ERROR(
        results_table::ForEachInput(db, [&](scheduler::RecordInput input) { sink.OnInput(std::move(input)); }));
    LOUPE_RETURN_IF_ERROR(
        metric_points_table::ForEachRung(db, [&](const scheduler::NoteRung& rung) { sink.OnRung(rung); }));
    LOUPE_RETURN_IF_ERROR(
        workers_table::ForEach(db, [&](scheduler::WorkerRecord worker) { sink.OnWorker(std::move(worker)); }));
    LOUPE_RETURN_IF_ERROR(
        attempts_table::ForEachLive(db, [&](LiveAttempt attempt) { sink.OnLiveAttempt(std::move(attempt)); }));
    return requests_table::ForEach(db, [&](scheduler::RecordRequest request) { sink.OnRequest(std::move(request)); });
  });
}

absl::StatusOr<scheduler::SweepRecord> SqliteStore::GetSweep(const std::string& id) {
  scheduler::SweepRecord sweep;
  LOUPE_RETURN_IF_ERROR(Read([&](SqliteDb& db) -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(sweep, sweeps_table::Get(db, id));
    return absl::OkStatus();
  }));
  return sweep;
}

absl::StatusOr<std::vector<scheduler::SweepRecord>> SqliteStore::ListSweeps(scheduler::SweepKey before, int64_t limit) {
  std::vector<scheduler::SweepRecord> sweeps;
  LOUPE_RETURN_IF_ERROR(Read([&](SqliteDb& db) -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(sweeps, sweeps_table::ListNewestFirst(db, before, limit));
    return absl::OkStatus();
  }));
  return sweeps;
}

absl::StatusOr<scheduler::TrialCounts> SqliteStore::CountTrials(scheduler::SweepKey sweep) {
  scheduler::TrialCounts counts;
  LOUPE_RETURN_IF_ERROR(Read([&](SqliteDb& db) -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(counts, trials_table::Count(db, sweep));
    return absl::OkStatus();
  }));
  return counts;
}

absl::StatusOr<TrialRow> SqliteStore::GetTrial(scheduler::TrialKey trial) {
  std::vector<TrialRow> rows;
  LOUPE_RETURN_IF_ERROR(Read([&](SqliteDb& db) -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(TrialRow row, trials_table::Get(db, trial));
    rows.push_back(std::move(row));
    return AddScores(db, trial.sweep, rows);
  }));
  return std::move(rows.front());
}

absl::StatusOr<std::vector<TrialRow>> SqliteStore::ListTrials(scheduler::SweepKey sweep, const TrialFilter& filter) {
  std::vector<TrialRow> rows;
  LOUPE_RETURN_IF_ERROR(Read([&](SqliteDb& db) -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(rows, trials_table::List(db, sweep, filter));
    return AddScores(db, sweep, rows);
  }));
  return rows;
}

absl::StatusOr<TrialColumns> SqliteStore::ReadColumns(scheduler::SweepKey sweep, int64_t first, int64_t limit) {
  TrialColumns columns;
  LOUPE_RETURN_IF_ERROR(Read([&](SqliteDb& db) -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(columns, trials_table::Columns(db, sweep, first, limit));
    return results_table::FillScores(db, sweep, columns);
  }));
  return columns;
}

absl::StatusOr<std::vector<ResultSeconds>> SqliteStore::ListResultSeconds(scheduler::SweepKey sweep, int64_t limit) {
  std::vector<ResultSeconds> results;
  LOUPE_RETURN_IF_ERROR(Read([&](SqliteDb& db) -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(results, results_table::ListSeconds(db, sweep, limit));
    return absl::OkStatus();
  }));
  return results;
}

absl::StatusOr<std::string> SqliteStore::GetCellLevelsJson(scheduler::SweepKey sweep, int64_t cell) {
  std::string levels;
  LOUPE_RETURN_IF_ERROR(Read([&](SqliteDb& db) -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(levels, trials_table::CellLevelsJson(db, sweep, cell));
    return absl::OkStatus();
  }));
  return levels;
}

absl::StatusOr<std::vector<int64_t>> SqliteStore::FindTrials(scheduler::SweepKey sweep,
                                                             const std::set<TrialState>& states) {
  std::vector<int64_t> indexes;
  LOUPE_RETURN_IF_ERROR(Read([&](SqliteDb& db) -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(indexes, trials_table::Find(db, sweep, states));
    return absl::OkStatus();
  }));
  return indexes;
}

absl::StatusOr<std::vector<scheduler::MetricPoint>> SqliteStore::ListPoints(scheduler::TrialKey trial, int64_t epoch,
                                                                            const std::string& metric,
                                                                            const std::optional<PointPosition>& after,
                                                                            int64_t limit) {
  std::vector<scheduler::MetricPoint> points;
  LOUPE_RETURN_IF_ERROR(Read([&](SqliteDb& db) -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(points, metric_points_table::List(db, trial, epoch, metric, after, limit));
    return absl::OkStatus();
  }));
  return points;
}

absl::StatusOr<std::vector<AttemptRow>> SqliteStore::ListAttempts(const AttemptFilter& filter) {
  std::vector<AttemptRow> attempts;
  LOUPE_RETURN_IF_ERROR(Read([&](SqliteDb& db) -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(attempts, attempts_table::List(db, filter));
    return absl::OkStatus();
  }));
  return attempts;
}

absl::StatusOr<ScoreSummary> SqliteStore::SummariseScore(scheduler::SweepKey sweep, const std::string& score,
                                                         bool smaller_is_better) {
  ScoreSummary summary;
  LOUPE_RETURN_IF_ERROR(Read([&](SqliteDb& db) -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(summary, results_table::Summarise(db, sweep, score, smaller_is_better));
    return absl::OkStatus();
  }));
  return summary;
}

absl::StatusOr<int64_t> SqliteStore::CountAcceptedSince(scheduler::SweepKey sweep, absl::Time since) {
  int64_t count = 0;
  LOUPE_RETURN_IF_ERROR(Read([&](SqliteDb& db) -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(count, results_table::CountSince(db, sweep, since));
    return absl::OkStatus();
  }));
  return count;
}

absl::StatusOr<std::map<std::string, std::string>> SqliteStore::GetProvenance(scheduler::TrialKey trial) {
  std::map<std::string, std::string> provenance;
  LOUPE_RETURN_IF_ERROR(Read([&](SqliteDb& db) -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(provenance, results_table::Provenance(db, trial));
    return absl::OkStatus();
  }));
  return provenance;
}

absl::StatusOr<std::vector<scheduler::ArtifactRecord>> SqliteStore::ListArtifacts(scheduler::TrialKey trial) {
  std::vector<scheduler::ArtifactRecord> artifacts;
  LOUPE_RETURN_IF_ERROR(Read([&](SqliteDb& db) -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(artifacts, artifacts_table::ListOfLatest(db, trial));
    return absl::OkStatus();
  }));
  return artifacts;
}

absl::StatusOr<scheduler::ArtifactRecord> SqliteStore::GetArtifact(scheduler::TrialKey trial, int64_t epoch,
                                                                   const std::string& name) {
  scheduler::ArtifactRecord artifact;
  LOUPE_RETURN_IF_ERROR(Read([&](SqliteDb& db) -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(artifact, artifacts_table::Get(db, trial, epoch, name));
    return absl::OkStatus();
  }));
  return artifact;
}

absl::StatusOr<SweepSnapshot> SqliteStore::Snapshot(const std::string& sweep_id) {
  SweepSnapshot snapshot;
  LOUPE_RETURN_IF_ERROR(Read([&](SqliteDb& db) -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(snapshot.sweep, sweeps_table::Get(db, sweep_id));
    if (const scheduler::SweepState shown = snapshot.sweep.shown_state(); shown != snapshot.sweep.state) {
      return absl::FailedPreconditionError(
          fmt::format("sweep '{}' is {}: it has no results to look at", sweep_id, scheduler::NameOf(shown)));
    }
    const scheduler::SweepKey key = snapshot.sweep.key;
    auto& trials = snapshot.trials;
    LOUPE_RETURN_IF_ERROR(trials_table::ForEachForReport(
        db, key, [&](SweepSnapshot::Trial trial) { trials.push_back(std::move(trial)); }));
    // Trials are numbered from 0 without gaps.
    const auto at = [&](int64_t index) -> SweepSnapshot::Trial& { return trials.at(static_cast<size_t>(index)); };
    LOUPE_RETURN_IF_ERROR(results_table::ForEachResult(
        db, key, [&](int64_t index, double total_seconds, double parameters, int64_t stopped) {
          at(index).stopped_at_step = stopped;
          at(index).total_seconds = total_seconds;
          at(index).parameters = parameters;
        }));
    LOUPE_RETURN_IF_ERROR(artifacts_table::ForEachWeightFile(
        db, key, [&](int64_t index, int64_t bytes) { at(index).weight_bytes = bytes; }));
    LOUPE_RETURN_IF_ERROR(results_table::ForEachScore(
        db, key, 0, snapshot.sweep.trials(),
        [&](int64_t index, std::string name, double value) { at(index).scores.emplace(std::move(name), value); }));
    LOUPE_RETURN_IF_ERROR(artifacts_table::ForEachAccepted(
        db, key, "samples.png",
        [&](int64_t index, std::string sha256) { at(index).samples_sha256 = std::move(sha256); }));
    auto& curves = snapshot.curves;
    LOUPE_RETURN_IF_ERROR(metric_points_table::ForEachAccepted(
        db, key, [&](const std::string& metric, int64_t index, int64_t step, double value) {
          if (curves.empty() || curves.back().metric != metric || curves.back().trial_index != index) {
            curves.push_back({index, metric, {}});
          }
          curves.back().points.emplace_back(step, value);
        }));
    std::map<int64_t, std::map<std::string, std::string>> digests;
    LOUPE_RETURN_IF_ERROR(
        results_table::ForEachDigest(db, key, [&](int64_t index, std::string name, std::string sha256) {
          digests[index].emplace(std::move(name), std::move(sha256));
        }));
    std::map<std::map<std::string, std::string>, int32_t> sets;
    for (auto& [index, of_trial] : digests) {
      at(index).input_set = sets.emplace(std::move(of_trial), static_cast<int32_t>(sets.size())).first->second;
    }
    snapshot.input_sets.resize(sets.size());
    for (const auto& [set, place] : sets) snapshot.input_sets[static_cast<size_t>(place)] = set;
    LOUPE_ASSIGN_OR_RETURN(snapshot.numerics, results_table::Numerics(db, key));
    LOUPE_ASSIGN_OR_RETURN(snapshot.notes, results_table::Notes(db, key));
    LOUPE_ASSIGN_OR_RETURN(snapshot.provenance, results_table::FirstProvenance(db, key));
    return absl::OkStatus();
  }));
  return snapshot;
}

}  // namespace loupe::coordinator::store
