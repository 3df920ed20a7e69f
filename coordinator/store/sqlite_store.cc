#include "coordinator/store/sqlite_store.h"

#include <climits>
#include <utility>

#include "common/status_macros.h"
#include "coordinator/store/artifacts_table.h"
#include "coordinator/store/attempts_table.h"
#include "coordinator/store/metric_points_table.h"
#include "coordinator/store/migrations.h"
#include "coordinator/store/requests_table.h"
#include "coordinator/store/results_table.h"
#include "coordinator/store/sweeps_table.h"
#include "coordinator/store/trials_table.h"
#include "coordinator/store/workers_table.h"
#include "fmt/format.h"
#include "spdlog/spdlog.h"

namespace loupe::coordinator {
namespace {

// One overload per effect; std::visit makes sure that none is forgotten.
struct Writer {
  SqliteDb& db;

  absl::Status operator()(const InsertSweep& effect) const {
    LOUPE_RETURN_IF_ERROR(sweeps_table::Insert(db, effect.sweep));
    return trials_table::InsertAll(db, effect);
  }
  absl::Status operator()(const UpdateSweep& effect) const { return sweeps_table::UpdateState(db, effect.sweep); }
  absl::Status operator()(const DeleteSweep& effect) const { return sweeps_table::Delete(db, effect.sweep); }
  absl::Status operator()(const UpdateTrial& effect) const { return trials_table::Update(db, effect); }
  absl::Status operator()(const CancelQueuedTrials& effect) const { return trials_table::CancelQueued(db, effect.sweep); }
  absl::Status operator()(const StartAttempt& effect) const { return attempts_table::Insert(db, effect); }
  absl::Status operator()(const EndAttempt& effect) const { return attempts_table::End(db, effect); }
  absl::Status operator()(const AcceptResult& effect) const { return results_table::Insert(db, effect); }
  absl::Status operator()(const KeepSupersededResult& effect) const { return attempts_table::KeepSuperseded(db, effect); }
  absl::Status operator()(const AppendPoints& effect) const {
    LOUPE_RETURN_IF_ERROR(metric_points_table::Append(db, effect));
    return attempts_table::SetPointSequence(db, effect.trial, effect.epoch, effect.sequence);
  }
  absl::Status operator()(const RecordArtifact& effect) const { return artifacts_table::Upsert(db, effect); }
  absl::Status operator()(const UpsertWorker& effect) const { return workers_table::Upsert(db, effect.worker); }
  absl::Status operator()(const CountWorker& effect) const { return workers_table::Count(db, effect); }
  absl::Status operator()(const RecordRequest& effect) const { return requests_table::Insert(db, effect); }
};

absl::Status AddScores(SqliteDb& db, SweepKey sweep, std::vector<TrialRow>& trials) {
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
  return store;
}

// In place of SQLite's own hook, which does the same without the alarm.
int SqliteStore::OnCommitted(void* self, sqlite3* db, const char*, int pages) {
  auto& store = *static_cast<SqliteStore*>(self);
  if (pages >= kCheckpointPages) sqlite3_wal_checkpoint_v2(db, nullptr, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr);
  if (pages < kAlarmPages) {
    store.alarm_pages_ = kAlarmPages;
  } else if (pages >= store.alarm_pages_) {
    store.alarm_pages_ = pages > INT_MAX / 2 ? INT_MAX : 2 * pages;
    spdlog::warn("'{}-wal' has grown to {} MiB: somebody reads an old snapshot of the database, and it grows until that reader ends",
                 store.options_.path, pages / 256);
  }
  return SQLITE_OK;
}

absl::Status SqliteStore::Commit(const Effects& effects) {
  if (effects.empty()) return absl::OkStatus();
  return writer_->WithTransaction("BEGIN IMMEDIATE", [&]() -> absl::Status {
    for (const Effect& effect : effects) LOUPE_RETURN_IF_ERROR(std::visit(Writer{*writer_}, effect));
    return absl::OkStatus();
  });
}

template <typename Body>
absl::Status SqliteStore::Read(Body body) {
  std::unique_ptr<SqliteDb> reader;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
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
  if (status.ok() || status.code() == absl::StatusCode::kNotFound) {
    const std::lock_guard<std::mutex> lock(mutex_);
    idle_readers_.push_back(std::move(reader));
  }
  return status;
}

absl::Status SqliteStore::Recover(RecoverySink& sink) {
  return Read([&](SqliteDb& db) -> absl::Status {
    std::vector<SweepRecord> sweeps;
    LOUPE_RETURN_IF_ERROR(sweeps_table::ForEachByKey(db, [&](SweepRecord sweep) { sweeps.push_back(std::move(sweep)); }));
    for (SweepRecord& sweep : sweeps) {
      const SweepKey key = sweep.key;
      sink.OnSweep(std::move(sweep));
      LOUPE_RETURN_IF_ERROR(trials_table::ForEachSeed(db, key, [&](const TrialSeed& trial) { sink.OnTrial(key, trial); }));
    }
    LOUPE_RETURN_IF_ERROR(workers_table::ForEach(db, [&](WorkerRecord worker) { sink.OnWorker(std::move(worker)); }));
    LOUPE_RETURN_IF_ERROR(
        attempts_table::ForEachLive(db, [&](LiveAttempt attempt) { sink.OnLiveAttempt(std::move(attempt)); }));
    return requests_table::ForEach(db, [&](RecordRequest request) { sink.OnRequest(std::move(request)); });
  });
}

absl::StatusOr<SweepRecord> SqliteStore::GetSweep(const std::string& id) {
  SweepRecord sweep;
  LOUPE_RETURN_IF_ERROR(Read([&](SqliteDb& db) -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(sweep, sweeps_table::Get(db, id));
    return absl::OkStatus();
  }));
  return sweep;
}

absl::StatusOr<std::vector<SweepRecord>> SqliteStore::ListSweeps(SweepKey before, int64_t limit) {
  std::vector<SweepRecord> sweeps;
  LOUPE_RETURN_IF_ERROR(Read([&](SqliteDb& db) -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(sweeps, sweeps_table::ListNewestFirst(db, before, limit));
    return absl::OkStatus();
  }));
  return sweeps;
}

absl::StatusOr<TrialCounts> SqliteStore::CountTrials(SweepKey sweep) {
  TrialCounts counts;
  LOUPE_RETURN_IF_ERROR(Read([&](SqliteDb& db) -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(counts, trials_table::Count(db, sweep));
    return absl::OkStatus();
  }));
  return counts;
}

absl::StatusOr<TrialRow> SqliteStore::GetTrial(TrialKey trial) {
  std::vector<TrialRow> rows;
  LOUPE_RETURN_IF_ERROR(Read([&](SqliteDb& db) -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(TrialRow row, trials_table::Get(db, trial));
    rows.push_back(std::move(row));
    return AddScores(db, trial.sweep, rows);
  }));
  return std::move(rows.front());
}

absl::StatusOr<std::vector<TrialRow>> SqliteStore::ListTrials(SweepKey sweep, const TrialFilter& filter) {
  std::vector<TrialRow> rows;
  LOUPE_RETURN_IF_ERROR(Read([&](SqliteDb& db) -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(rows, trials_table::List(db, sweep, filter));
    return AddScores(db, sweep, rows);
  }));
  return rows;
}

absl::StatusOr<std::string> SqliteStore::GetCellLevelsJson(SweepKey sweep, int64_t cell) {
  std::string levels;
  LOUPE_RETURN_IF_ERROR(Read([&](SqliteDb& db) -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(levels, trials_table::CellLevelsJson(db, sweep, cell));
    return absl::OkStatus();
  }));
  return levels;
}

absl::StatusOr<std::vector<int64_t>> SqliteStore::FindTrials(SweepKey sweep, const std::set<TrialState>& states) {
  std::vector<int64_t> indexes;
  LOUPE_RETURN_IF_ERROR(Read([&](SqliteDb& db) -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(indexes, trials_table::Find(db, sweep, states));
    return absl::OkStatus();
  }));
  return indexes;
}

absl::StatusOr<std::vector<MetricPoint>> SqliteStore::ListPoints(TrialKey trial, int64_t epoch, const std::string& metric,
                                                                 const std::optional<PointPosition>& after,
                                                                 int64_t limit) {
  std::vector<MetricPoint> points;
  LOUPE_RETURN_IF_ERROR(Read([&](SqliteDb& db) -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(points, metric_points_table::List(db, trial, epoch, metric, after, limit));
    return absl::OkStatus();
  }));
  return points;
}

absl::StatusOr<std::vector<ArtifactRecord>> SqliteStore::ListArtifacts(TrialKey trial) {
  std::vector<ArtifactRecord> artifacts;
  LOUPE_RETURN_IF_ERROR(Read([&](SqliteDb& db) -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(artifacts, artifacts_table::ListOfLatest(db, trial));
    return absl::OkStatus();
  }));
  return artifacts;
}

absl::StatusOr<ArtifactRecord> SqliteStore::GetArtifact(TrialKey trial, int64_t epoch, const std::string& name) {
  ArtifactRecord artifact;
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
    const SweepKey key = snapshot.sweep.key;
    auto& trials = snapshot.trials;
    LOUPE_RETURN_IF_ERROR(trials_table::ForEachForReport(
        db, key, [&](SweepSnapshot::Trial trial) { trials.push_back(std::move(trial)); }));
    // Trials are numbered from 0 without gaps.
    const auto at = [&](int64_t index) -> SweepSnapshot::Trial& { return trials.at(static_cast<size_t>(index)); };
    LOUPE_RETURN_IF_ERROR(results_table::ForEachResult(
        db, key, [&](int64_t index, double total_seconds) { at(index).total_seconds = total_seconds; }));
    LOUPE_RETURN_IF_ERROR(results_table::ForEachScore(
        db, key, 0, snapshot.sweep.trials(),
        [&](int64_t index, std::string name, double value) { at(index).scores.emplace(std::move(name), value); }));
    LOUPE_RETURN_IF_ERROR(artifacts_table::ForEachAccepted(
        db, key, "samples.png", [&](int64_t index, std::string sha256) { at(index).samples_sha256 = std::move(sha256); }));
    auto& curves = snapshot.curves;
    LOUPE_RETURN_IF_ERROR(metric_points_table::ForEachAccepted(
        db, key, [&](const std::string& metric, int64_t index, int64_t step, double value) {
          if (curves.empty() || curves.back().metric != metric || curves.back().trial_index != index) {
            curves.push_back({index, metric, {}});
          }
          curves.back().points.emplace_back(step, value);
        }));
    LOUPE_ASSIGN_OR_RETURN(snapshot.provenance, results_table::FirstProvenance(db, key));
    return absl::OkStatus();
  }));
  return snapshot;
}

}  // namespace loupe::coordinator
