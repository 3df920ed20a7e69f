#include "coordinator/store/tables/artifacts_table.h"

#include <optional>
#include <utility>

#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::coordinator::store::artifacts_table {
namespace {

constexpr char kUpsertSql[] =
    "INSERT INTO artifacts (sweep_key, trial_index, epoch, name, media_type, size_bytes, sha256) VALUES (?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (sweep_key, trial_index, epoch, name) DO UPDATE SET media_type = excluded.media_type, "
    "size_bytes = excluded.size_bytes, sha256 = excluded.sha256";
// The accepted result's epoch where there is one, else the latest that handed anything over.
constexpr char kListSql[] =
    "SELECT name, media_type, size_bytes, sha256, epoch FROM artifacts WHERE sweep_key = ?1 AND trial_index = ?2 AND epoch = "
    "coalesce((SELECT epoch FROM results WHERE sweep_key = ?1 AND trial_index = ?2), "
    "(SELECT max(epoch) FROM artifacts WHERE sweep_key = ?1 AND trial_index = ?2)) ORDER BY name";
constexpr char kGetSql[] =
    "SELECT name, media_type, size_bytes, sha256, epoch FROM artifacts "
    "WHERE sweep_key = ? AND trial_index = ? AND epoch = ? AND name = ?";
constexpr char kDigestsSql[] = "SELECT DISTINCT sha256 FROM artifacts ORDER BY sha256";
constexpr char kAcceptedSql[] =
    "SELECT a.trial_index, a.sha256 FROM artifacts AS a JOIN results AS r USING (sweep_key, trial_index, epoch) "
    "WHERE a.sweep_key = ? AND a.name = ? ORDER BY a.trial_index";

constexpr char kWeightBytesSql[] =
    "SELECT a.trial_index, SUM(a.size_bytes) FROM artifacts AS a JOIN results AS r USING (sweep_key, trial_index, epoch) "
    "WHERE a.sweep_key = ? AND a.name LIKE '%.safetensors' GROUP BY a.trial_index ORDER BY a.trial_index";

scheduler::ArtifactRecord Read(const SqliteRow& row) {
  return {.name = row.Text(0),
          .media_type = row.Text(1),
          .size_bytes = row.Int(2),
          .sha256 = row.Text(3),
          .epoch = row.Int(4)};
}

}  // namespace

absl::Status Upsert(SqliteDb& db, const scheduler::RecordArtifact& record) {
  const scheduler::ArtifactRecord& artifact = record.artifact;
  return db.Run(kUpsertSql, record.trial.sweep, record.trial.index, artifact.epoch, std::string_view(artifact.name),
                std::string_view(artifact.media_type), artifact.size_bytes, std::string_view(artifact.sha256));
}

absl::StatusOr<std::vector<scheduler::ArtifactRecord>> ListOfLatest(SqliteDb& db, scheduler::TrialKey trial) {
  std::vector<scheduler::ArtifactRecord> artifacts;
  LOUPE_RETURN_IF_ERROR(db.ForEach(
      kListSql, [&](const SqliteRow& row) { artifacts.push_back(Read(row)); }, trial.sweep, trial.index));
  return artifacts;
}

absl::StatusOr<scheduler::ArtifactRecord> Get(SqliteDb& db, scheduler::TrialKey trial, int64_t epoch,
                                              const std::string& name) {
  std::optional<scheduler::ArtifactRecord> found;
  LOUPE_RETURN_IF_ERROR(db.ForEach(
      kGetSql, [&](const SqliteRow& row) { found = Read(row); }, trial.sweep, trial.index, epoch,
      std::string_view(name)));
  if (!found) {
    return absl::NotFoundError(fmt::format("attempt {} of trial {} has no artifact '{}'", epoch, trial.index, name));
  }
  return *std::move(found);
}

absl::StatusOr<std::set<std::string>> Digests(SqliteDb& db) {
  std::set<std::string> digests;
  LOUPE_RETURN_IF_ERROR(db.ForEach(kDigestsSql, [&](const SqliteRow& row) { digests.insert(row.Text(0)); }));
  return digests;
}

absl::Status ForEachAccepted(SqliteDb& db, scheduler::SweepKey sweep, const std::string& name,
                             const std::function<void(int64_t, std::string)>& fn) {
  return db.ForEach(
      kAcceptedSql, [&](const SqliteRow& row) { fn(row.Int(0), row.Text(1)); }, sweep, std::string_view(name));
}

absl::Status ForEachWeightFile(SqliteDb& db, scheduler::SweepKey sweep,
                               const std::function<void(int64_t, int64_t)>& fn) {
  return db.ForEach(
      kWeightBytesSql, [&](const SqliteRow& row) { fn(row.Int(0), row.Int(1)); }, sweep);
}

}  // namespace loupe::coordinator::store::artifacts_table
