// Which of our SQLite files a file is: PRAGMA application_id and user_version.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"
#include "coordinator/store/sqlite_db.h"

namespace loupe::coordinator::store {

struct FileMark {
  int32_t application = 0;
  int32_t version = 0;
  int64_t tables = 0;  // with their indices
};
absl::StatusOr<FileMark> ReadFileMark(SqliteDb& db);
absl::Status WriteFileMark(SqliteDb& db, int32_t application, int32_t version);

// Of a file that has had one schema only.
struct OneSchema {
  int32_t application = 0;
  int32_t version = 0;
  const char* sql = nullptr;
  std::string_view what;  // "a database of logs"
};
// Makes it in an empty file. FAILED_PRECONDITION: the file is marked, or has tables, and is not of this kind and
// version.
absl::Status MakeOrCheckSchema(SqliteDb& db, const OneSchema& schema);

}  // namespace loupe::coordinator::store
