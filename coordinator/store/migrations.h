// The database's schema, version by version (PRAGMA user_version).
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/store/sqlite_db.h"

namespace loupe::coordinator::store {

// "Loup" in PRAGMA application_id: tells our files from other SQLite databases.
inline constexpr int32_t kApplicationId = 0x4c6f7570;

// The version that this program writes.
int SchemaVersion();

// Brings the file to SchemaVersion(), each step in a transaction of its own; an empty file gets the whole schema.
// FAILED_PRECONDITION for a newer schema, and for a database of some other program: nothing is changed then.
absl::Status Migrate(SqliteDb& db);

// The version that the file has; 0 for an empty one. FAILED_PRECONDITION as Migrate's.
absl::StatusOr<int> StoredSchemaVersion(SqliteDb& db);

}  // namespace loupe::coordinator::store
