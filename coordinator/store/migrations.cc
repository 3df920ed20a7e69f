#include "coordinator/store/migrations.h"

#include <array>

#include "common/settings/settings.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "coordinator/store/analyst_views.h"
#include "coordinator/store/file_mark.h"
#include "fmt/format.h"

namespace loupe::coordinator::store {
namespace {

// Times are microseconds of Unix time, durations microseconds. Enumerations are the numbers in scheduler/model.h.
constexpr char kSchema1Sql[] = R"sql(
CREATE TABLE sweeps (
  sweep_key INTEGER PRIMARY KEY,
  sweep_id TEXT NOT NULL UNIQUE,
  uid TEXT NOT NULL UNIQUE,
  display_name TEXT NOT NULL,
  spec BLOB NOT NULL,
  cell_count INTEGER NOT NULL CHECK (cell_count > 0),
  replicates INTEGER NOT NULL CHECK (replicates > 0),
  seed INTEGER NOT NULL,
  priority INTEGER NOT NULL,
  max_trial_attempts INTEGER NOT NULL,
  max_worker_losses INTEGER NOT NULL,
  backoff_us INTEGER NOT NULL,
  max_failed_trials INTEGER NOT NULL,
  state INTEGER NOT NULL CHECK (state BETWEEN 1 AND 6),
  state_reason TEXT NOT NULL,
  create_time_us INTEGER NOT NULL,
  update_time_us INTEGER NOT NULL,
  end_time_us INTEGER,
  revision INTEGER NOT NULL
) STRICT;

CREATE TABLE cells (
  sweep_key INTEGER NOT NULL REFERENCES sweeps ON DELETE CASCADE,
  cell_index INTEGER NOT NULL,
  levels TEXT NOT NULL,
  PRIMARY KEY (sweep_key, cell_index)
) STRICT, WITHOUT ROWID;

CREATE TABLE trials (
  sweep_key INTEGER NOT NULL REFERENCES sweeps ON DELETE CASCADE,
  trial_index INTEGER NOT NULL,
  cell_index INTEGER NOT NULL,
  replicate INTEGER NOT NULL,
  state INTEGER NOT NULL CHECK (state BETWEEN 1 AND 6),
  epoch INTEGER NOT NULL,
  failed_attempts INTEGER NOT NULL,
  worker_losses INTEGER NOT NULL,
  failure_class INTEGER,
  failure_message TEXT,
  PRIMARY KEY (sweep_key, trial_index),
  UNIQUE (sweep_key, cell_index, replicate)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempts (
  sweep_key INTEGER NOT NULL,
  trial_index INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  token TEXT NOT NULL,
  worker TEXT NOT NULL,
  session TEXT NOT NULL,
  start_time_us INTEGER NOT NULL,
  end_time_us INTEGER,
  outcome INTEGER NOT NULL CHECK (outcome BETWEEN 0 AND 4),
  failure_class INTEGER,
  failure_message TEXT,
  point_sequence INTEGER NOT NULL DEFAULT 0,
  superseded_result TEXT,
  PRIMARY KEY (sweep_key, trial_index, epoch),
  FOREIGN KEY (sweep_key, trial_index) REFERENCES trials ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX one_running_attempt_per_trial ON attempts (sweep_key, trial_index) WHERE outcome = 0;

CREATE TABLE results (
  sweep_key INTEGER NOT NULL,
  trial_index INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  digest INTEGER NOT NULL,
  train_seconds REAL NOT NULL,
  total_seconds REAL NOT NULL,
  provenance TEXT NOT NULL,
  accept_time_us INTEGER NOT NULL,
  PRIMARY KEY (sweep_key, trial_index),
  FOREIGN KEY (sweep_key, trial_index, epoch) REFERENCES attempts ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE scores (
  sweep_key INTEGER NOT NULL,
  trial_index INTEGER NOT NULL,
  name TEXT NOT NULL,
  value REAL NOT NULL,
  PRIMARY KEY (sweep_key, trial_index, name),
  FOREIGN KEY (sweep_key, trial_index) REFERENCES results ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE metric_names (
  metric_id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE metric_points (
  sweep_key INTEGER NOT NULL,
  trial_index INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  metric_id INTEGER NOT NULL REFERENCES metric_names,
  step INTEGER NOT NULL,
  value REAL,
  PRIMARY KEY (sweep_key, trial_index, epoch, metric_id, step),
  FOREIGN KEY (sweep_key, trial_index, epoch) REFERENCES attempts ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE artifacts (
  sweep_key INTEGER NOT NULL,
  trial_index INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  name TEXT NOT NULL,
  media_type TEXT NOT NULL,
  size_bytes INTEGER NOT NULL CHECK (size_bytes >= 0),
  sha256 TEXT NOT NULL CHECK (length(sha256) = 64),
  PRIMARY KEY (sweep_key, trial_index, epoch, name),
  FOREIGN KEY (sweep_key, trial_index, epoch) REFERENCES attempts ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE workers (
  worker_id TEXT PRIMARY KEY,
  session TEXT NOT NULL,
  past_sessions TEXT NOT NULL,
  hostname TEXT NOT NULL,
  device TEXT NOT NULL,
  version TEXT NOT NULL,
  process_id INTEGER NOT NULL,
  threads INTEGER NOT NULL,
  memory_bytes INTEGER NOT NULL,
  slots INTEGER NOT NULL,
  draining INTEGER NOT NULL CHECK (draining IN (0, 1)),
  first_seen_us INTEGER NOT NULL,
  succeeded INTEGER NOT NULL,
  failed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE requests (
  request_id TEXT PRIMARY KEY,
  method TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  sweep_id TEXT NOT NULL,
  answer INTEGER NOT NULL,
  time_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
)sql";

// Lease tokens are kept as their digests only.
constexpr char kSchema2Sql[] = R"sql(
ALTER TABLE attempts RENAME COLUMN token TO token_sha256;
UPDATE attempts SET token_sha256 = loupe_sha256(token_sha256);
)sql";

// What the accepted results of a sweep were computed from; work on all of a sweep's trials that is still to be done.
constexpr char kSchema3Sql[] = R"sql(
CREATE TABLE sweep_inputs (
  sweep_key INTEGER NOT NULL REFERENCES sweeps ON DELETE CASCADE,
  name TEXT NOT NULL,
  sha256 TEXT NOT NULL CHECK (length(sha256) = 64),
  PRIMARY KEY (sweep_key, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE jobs (
  sweep_key INTEGER PRIMARY KEY REFERENCES sweeps ON DELETE CASCADE,
  kind INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 5),
  next_trial INTEGER NOT NULL,
  trial_states INTEGER NOT NULL,
  cell_filter TEXT NOT NULL,
  client TEXT NOT NULL
) STRICT;

CREATE INDEX requests_by_time ON requests (time_us);
)sql";

// For migrations: SQLite has no digests of its own.
void Sha256OfText(sqlite3_context* context, int, sqlite3_value** values) {
  const void* bytes = sqlite3_value_blob(values[0]);
  const size_t size = static_cast<size_t>(sqlite3_value_bytes(values[0]));
  const std::string digest = Sha256Hex(std::string_view(static_cast<const char*>(bytes), bytes == nullptr ? 0 : size));
  sqlite3_result_text(context, digest.data(), static_cast<int>(digest.size()), SQLITE_TRANSIENT);
}

// Sweeps before this step took what was not given from the program that ran: version 1 of the settings, for all of
// them. When a worker was last heard of is what is known of its attempts.
constexpr char kSchema4Sql[] = R"sql(
UPDATE sweeps SET spec = loupe_with_defaults(spec);
ALTER TABLE workers ADD COLUMN last_seen_us INTEGER NOT NULL DEFAULT 0;
UPDATE workers SET last_seen_us = first_seen_us;
UPDATE workers SET last_seen_us = max(last_seen_us, seen.last_us)
  FROM (SELECT worker, max(coalesce(end_time_us, start_time_us)) AS last_us FROM attempts GROUP BY worker) AS seen
  WHERE seen.worker = workers.worker_id;
)sql";

// For migrations: the specification with the defaults of version 1 of the settings. A specification is a serialised
// loupe.v1.SweepSpec, which this library does not know; but a field that is appended to a message belongs to it
// (protobuf's encoding), so that nothing has to be read.
void AppendDefaultsOfVersion1(sqlite3_context* context, int, sqlite3_value** values) {
  const auto varint = [](size_t number) {
    std::string bytes;
    for (; number >= 0x80; number >>= 7) bytes += static_cast<char>(number | 0x80);
    return bytes + static_cast<char>(number);
  };
  const auto field = [&](int number, const std::string& bytes) {
    return static_cast<char>(number << 3 | 2) + varint(bytes.size()) + bytes;
  };
  std::string defaults = {1 << 3, 1};  // SettingDefaults.version = 1
  for (const auto& [key, value] : settings::SettingDefaults::OfVersion(1).values) {
    defaults += field(2, field(1, key) + field(2, value));
  }
  const void* bytes = sqlite3_value_blob(values[0]);
  std::string spec(static_cast<const char*>(bytes), static_cast<size_t>(sqlite3_value_bytes(values[0])));
  spec += field(12, defaults);
  sqlite3_result_blob(context, spec.data(), static_cast<int>(spec.size()), SQLITE_TRANSIENT);
}

// Where trials of a search came to a rung (scheduler/early_stopping.h), and which results were ended early.
constexpr char kSchema5Sql[] = R"sql(
CREATE TABLE rungs (
  sweep_key INTEGER NOT NULL,
  trial_index INTEGER NOT NULL,
  rung INTEGER NOT NULL,
  value REAL,
  stops INTEGER NOT NULL CHECK (stops IN (0, 1)),
  PRIMARY KEY (sweep_key, trial_index, rung),
  FOREIGN KEY (sweep_key, trial_index) REFERENCES trials ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
ALTER TABLE results ADD COLUMN stopped_at_step INTEGER NOT NULL DEFAULT 0;
)sql";

// kSteps[i] takes a file from version i to i + 1. A released step is never edited; tests/coordinator/store/fixtures has
// a database of every earlier version, written by the program of its time, and says how to add the next.
constexpr std::array kSteps = {kSchema1Sql, kSchema2Sql, kSchema3Sql, kSchema4Sql, kSchema5Sql};

}  // namespace

int SchemaVersion() { return static_cast<int>(kSteps.size()); }

absl::StatusOr<int> StoredSchemaVersion(SqliteDb& db) {
  LOUPE_ASSIGN_OR_RETURN(const FileMark mark, ReadFileMark(db));
  const int version = mark.version;
  if (mark.application != kApplicationId && (mark.tables > 0 || version != 0)) {
    return absl::FailedPreconditionError(
        fmt::format("'{}' is a database of another program: give a folder of its own with --data", db.path()));
  }
  if (version > SchemaVersion()) {
    return absl::FailedPreconditionError(fmt::format(
        "'{}' has schema version {}, but this program knows only up to {}: use the newer Loupe that wrote it, or "
        "restore a backup made before that",
        db.path(), version, SchemaVersion()));
  }
  return version;
}

absl::Status Migrate(SqliteDb& db) {
  LOUPE_ASSIGN_OR_RETURN(const int version, StoredSchemaVersion(db));
  sqlite3_create_function_v2(db.handle(), "loupe_sha256", 1, SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_DIRECTONLY,
                             nullptr, &Sha256OfText, nullptr, nullptr, nullptr);
  sqlite3_create_function_v2(db.handle(), "loupe_with_defaults", 1,
                             SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_DIRECTONLY, nullptr, &AppendDefaultsOfVersion1,
                             nullptr, nullptr, nullptr);
  for (int step = version; step < SchemaVersion(); ++step) {
    LOUPE_RETURN_IF_ERROR(db.WithTransaction("BEGIN IMMEDIATE", [&]() -> absl::Status {
      LOUPE_RETURN_IF_ERROR(DropAnalystViews(db));
      LOUPE_RETURN_IF_ERROR(db.Execute(kSteps[static_cast<size_t>(step)]));
      return WriteFileMark(db, kApplicationId, step + 1);
    }));
  }
  return RenewAnalystViews(db);
}

}  // namespace loupe::coordinator::store
