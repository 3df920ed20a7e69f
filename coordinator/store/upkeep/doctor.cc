#include "coordinator/store/upkeep/doctor.h"

#include <algorithm>
#include <array>
#include <deque>
#include <filesystem>
#include <memory>
#include <set>
#include <string_view>
#include <system_error>

#include "common/status_macros.h"
#include "coordinator/store/artifact_folder.h"
#include "coordinator/store/lock_file.h"
#include "coordinator/store/migrations.h"
#include "coordinator/store/tables/artifacts_table.h"
#include "fmt/format.h"

namespace loupe::coordinator::store::upkeep {
namespace {

constexpr int kMostFindings = 20;
constexpr char kAdviceRestore[] =
    "no coordinator writes this: restore a backup ('loupe restore'), or keep the folder for study";

// What the rules are about: sweeps that are all there. `{}` in a rule stands for them.
constexpr char kAllSweeps[] = "sweeps";
// From schema version 3 on.
constexpr char kWholeSweeps[] =
    "(SELECT * FROM sweeps WHERE sweep_key NOT IN (SELECT sweep_key FROM jobs WHERE kind IN (1, 5)))";

// Each query names trials (sweep, index) that break a rule; every trial of a sound folder keeps all of them.
struct TrialRule {
  const char* problem;
  const char* sql;
};
constexpr std::array kTrialRules = {
    TrialRule{"has a result, but has not succeeded with it",
              "SELECT s.sweep_id, r.trial_index FROM results AS r JOIN trials AS t USING (sweep_key, trial_index) "
              "JOIN {} AS s USING (sweep_key) WHERE t.state <> 3 OR t.epoch <> r.epoch ORDER BY 1, 2"},
    TrialRule{
        "has succeeded, but has no result",
        "SELECT s.sweep_id, t.trial_index FROM trials AS t JOIN {} AS s USING (sweep_key) WHERE t.state = 3 AND NOT "
        "EXISTS (SELECT 1 FROM results AS r WHERE r.sweep_key = t.sweep_key AND r.trial_index = t.trial_index) ORDER BY 1, 2"},
    TrialRule{
        "does not count the attempts that are stored of it",
        "SELECT s.sweep_id, t.trial_index FROM trials AS t JOIN {} AS s USING (sweep_key) LEFT JOIN attempts AS a "
        "USING (sweep_key, trial_index) GROUP BY t.sweep_key, t.trial_index HAVING count(a.epoch) <> t.epoch "
        "OR coalesce(max(a.epoch), 0) <> t.epoch OR t.failed_attempts > coalesce(sum(a.outcome = 2), 0) "
        "OR t.worker_losses > coalesce(sum(a.outcome = 3), 0) ORDER BY 1, 2"},
    TrialRule{
        "runs without an attempt that runs, or the other way round",
        "SELECT s.sweep_id, t.trial_index FROM trials AS t JOIN {} AS s USING (sweep_key) LEFT JOIN attempts AS a "
        "USING (sweep_key, trial_index) GROUP BY t.sweep_key, t.trial_index "
        "HAVING coalesce(sum(a.outcome = 0), 0) <> (t.state = 2) ORDER BY 1, 2"},
    TrialRule{"is not done, and its sweep has ended",
              "SELECT s.sweep_id, t.trial_index FROM trials AS t JOIN {} AS s USING (sweep_key) "
              "WHERE s.state = 4 AND t.state IN (1, 2) ORDER BY 1, 2"}};
constexpr char kMissingTrialsSql[] =
    "SELECT s.sweep_id, s.cell_count * s.replicates, (SELECT count(*) FROM trials AS t WHERE t.sweep_key = s.sweep_key) AS n "
    "FROM {} AS s WHERE n <> s.cell_count * s.replicates ORDER BY s.sweep_id";

class Examiner {
 public:
  Examiner(const std::string& folder, SqliteDb& db, const ProgressFn& progress)
      : folder_(folder), db_(db), progress_(progress) {}

  absl::StatusOr<HealthReport> Run() && {
    LOUPE_ASSIGN_OR_RETURN(report_.schema_version, StoredSchemaVersion(db_));
    LOUPE_ASSIGN_OR_RETURN(const std::vector<std::string> damage, IntegrityFindings(db_, kMostFindings, progress_));
    for (const std::string& line : damage) {
      Add("database", "integrity_check: " + line,
          "stop the coordinator and restore a backup ('loupe restore'); what can still be read, "
          "'sqlite3 coordinator.db .recover' gives");
    }
    if (!damage.empty()) return std::move(report_);
    if (report_.schema_version < SchemaVersion()) {
      Add("database",
          fmt::format("has schema version {}; this program writes {}", report_.schema_version, SchemaVersion()),
          "nothing: the coordinator migrates it when it starts", Finding::Kind::kNote);
    }
    LOUPE_RETURN_IF_ERROR(WithProgress(
        db_, progress_, [] { return WorkProgress{.step = "recounting"}; }, [&] { return CheckRows(); }));
    LOUPE_ASSIGN_OR_RETURN(report_.counts, CountData(db_));
    LOUPE_RETURN_IF_ERROR(CheckArtifacts());
    return std::move(report_);
  }

 private:
  void Add(std::string subject, std::string problem, std::string advice, Finding::Kind kind = Finding::Kind::kDamage) {
    report_.findings.push_back({kind, std::move(subject), std::move(problem), std::move(advice)});
  }

  // Kept: a statement's text has to outlive the connection's use of it.
  const char* OfWholeSweeps(std::string_view rule) {
    std::string& sql = queries_.emplace_back(rule);
    sql.replace(sql.find("{}"), 2, report_.schema_version < 3 ? kAllSweeps : kWholeSweeps);
    return sql.c_str();
  }

  absl::Status CheckRows() {
    LOUPE_RETURN_IF_ERROR(db_.ForEach("PRAGMA foreign_key_check", [&](const SqliteRow& row) {
      Add("database",
          fmt::format("a row of table {} refers to a row of {} that is not there", row.Text(0), row.Text(2)),
          kAdviceRestore);
    }));
    for (const TrialRule& rule : kTrialRules) {
      int64_t broken = 0;
      LOUPE_RETURN_IF_ERROR(db_.ForEach(OfWholeSweeps(rule.sql), [&](const SqliteRow& row) {
        if (++broken <= kMostFindings) {
          Add(fmt::format("sweeps/{}/trials/{}", row.Text(0), row.Int(1)), rule.problem, kAdviceRestore);
        }
      }));
      if (broken > kMostFindings) {
        Add("database", fmt::format("{} more trials: each {}", broken - kMostFindings, rule.problem), kAdviceRestore);
      }
    }
    return db_.ForEach(OfWholeSweeps(kMissingTrialsSql), [&](const SqliteRow& row) {
      Add(fmt::format("sweeps/{}", row.Text(0)), fmt::format("{} trials planned, {} stored", row.Int(1), row.Int(2)),
          kAdviceRestore);
    });
  }

  absl::Status CheckArtifacts() {
    // Files before rows: a file without a row was there before its row could have been.
    const absl::StatusOr<ArtifactFolder> folder = ArtifactFolder::Existing(folder_ + kArtifactsFolder);
    std::vector<std::string> files;
    if (folder.ok()) {
      LOUPE_ASSIGN_OR_RETURN(files, folder->List());
    }
    LOUPE_ASSIGN_OR_RETURN(const std::set<std::string> referenced, artifacts_table::Digests(db_));
    WorkProgress state{.step = "checking artifacts", .done_bytes = 0, .total_bytes = report_.counts.artifact_bytes};
    for (const std::string& sha256 : referenced) {
      absl::Status sound = folder.status();
      if (folder.ok()) {
        sound = folder->ForEachBlock(sha256, [&](std::string_view block) -> absl::Status {
          state.done_bytes += static_cast<int64_t>(block.size());
          return !progress_ || progress_(state) ? absl::OkStatus() : absl::CancelledError("interrupted");
        });
      }
      if (absl::IsCancelled(sound)) return sound;
      if (sound.ok()) continue;
      Add("artifact " + sha256, std::string(sound.message()),
          fmt::format("copy artifacts/{}/{} from a backup into its place; scores do not depend on it",
                      sha256.substr(0, 2), sha256));
    }
    CountOrphans(folder, files, referenced);
    return absl::OkStatus();
  }

  void CountOrphans(const absl::StatusOr<ArtifactFolder>& folder, const std::vector<std::string>& files,
                    const std::set<std::string>& referenced) {
    for (const std::string& sha256 : files) {
      if (referenced.contains(sha256)) continue;
      std::error_code gone;
      const auto bytes = std::filesystem::file_size(*folder->PathOf(sha256), gone);
      ++report_.orphans;
      report_.orphan_bytes += gone ? 0 : static_cast<int64_t>(bytes);
    }
    if (report_.orphans == 0) return;
    Add("artifacts",
        fmt::format(
            "{} file{} ({} bytes) that no attempt refers to: of uploads that were cut off, or of deleted sweeps",
            report_.orphans, report_.orphans == 1 ? "" : "s", report_.orphan_bytes),
        "they do no harm; with the coordinator stopped, 'loupe doctor --remove-orphans' removes them",
        Finding::Kind::kNote);
  }

  const std::string& folder_;
  SqliteDb& db_;
  const ProgressFn& progress_;
  std::deque<std::string> queries_;
  HealthReport report_;
};

}  // namespace

std::vector<std::string> HealthReport::Damage() const {
  std::vector<std::string> damage;
  for (const Finding& finding : findings) {
    if (finding.kind == Finding::Kind::kDamage)
      damage.push_back(fmt::format("{}: {}", finding.subject, finding.problem));
  }
  return damage;
}

absl::StatusOr<HealthReport> Examine(const std::string& data_folder, const ProgressFn& progress) {
  LOUPE_ASSIGN_OR_RETURN(const std::unique_ptr<SqliteDb> db, OpenDatabase(data_folder));
  return Examiner(data_folder, *db, progress).Run();
}

absl::StatusOr<int64_t> RemoveOrphans(const std::string& data_folder) {
  LOUPE_ASSIGN_OR_RETURN(const std::unique_ptr<SqliteDb> db, OpenDatabase(data_folder));
  LOUPE_ASSIGN_OR_RETURN(const std::unique_ptr<LockFile> lock, LockFile::Acquire(data_folder + kLockFile));
  LOUPE_ASSIGN_OR_RETURN(const std::vector<std::string> damage, IntegrityFindings(*db, 1, nullptr));
  if (!damage.empty()) {
    return absl::FailedPreconditionError(fmt::format(
        "'{}' is damaged ({}): nothing is removed, since rows may be missing", data_folder, damage.front()));
  }
  LOUPE_ASSIGN_OR_RETURN(const ArtifactFolder folder, ArtifactFolder::Existing(data_folder + kArtifactsFolder));
  LOUPE_ASSIGN_OR_RETURN(const std::set<std::string> referenced, artifacts_table::Digests(*db));
  LOUPE_ASSIGN_OR_RETURN(const std::vector<std::string> files, folder.List());
  int64_t removed = 0;
  for (const std::string& sha256 : files) {
    if (referenced.contains(sha256)) continue;
    std::error_code error;
    if (std::filesystem::remove(*folder.PathOf(sha256), error)) ++removed;
    if (error) return absl::ErrnoToStatus(error.value(), fmt::format("cannot remove artifact {}", sha256));
  }
  return removed;
}

}  // namespace loupe::coordinator::store::upkeep
