// Views of the database for people who analyse it with SQL, pandas, DuckDB or R (docs/guide/database.md).
//
// They are the program's and not the data's: each start renews them, so that a view that gets better needs no
// migration, and a migration need not know of them. Their columns are a promise: columns are added, and neither renamed
// nor removed.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "coordinator/store/sqlite_db.h"

namespace loupe::coordinator::store {

struct AnalystView {
  std::string_view name;
  // CREATE VIEW …, as SQLite keeps it.
  std::string_view sql;
};
const std::vector<AnalystView>& AnalystViews();

// Makes the views what they are in this program; writes nothing where they are that already.
absl::Status RenewAnalystViews(SqliteDb& db);

// Before a migration, which could not change a column that a view reads.
absl::Status DropAnalystViews(SqliteDb& db);

}  // namespace loupe::coordinator::store
