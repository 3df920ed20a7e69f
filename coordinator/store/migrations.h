// The database's schema, version by version (PRAGMA user_version).
#pragma once

#include "absl/status/status.h"
#include "coordinator/store/sqlite_db.h"

namespace loupe::coordinator {

// "Loup" in PRAGMA application_id: tells our files from other SQLite databases.
inline constexpr int32_t kApplicationId = 0x4c6f7570;

// The version that this program writes.
int SchemaVersion();

// Brings the file to SchemaVersion(), each step in a transaction of its own; an empty file gets the whole schema.
// FAILED_PRECONDITION for a newer schema, and for a database of some other program: nothing is changed then.
absl::Status Migrate(SqliteDb& db);

// FAILED_PRECONDITION unless the file has exactly SchemaVersion(): for readers, which change nothing.
absl::Status CheckSchema(SqliteDb& db);

}  // namespace loupe::coordinator
