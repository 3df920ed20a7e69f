#include "coordinator/store/file_mark.h"

#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::coordinator::store {

absl::StatusOr<FileMark> ReadFileMark(SqliteDb& db) {
  FileMark mark;
  LOUPE_RETURN_IF_ERROR(
      db.ForEach("PRAGMA application_id", [&](const SqliteRow& row) { mark.application = row.Int32(0); }));
  LOUPE_RETURN_IF_ERROR(db.ForEach("PRAGMA user_version", [&](const SqliteRow& row) { mark.version = row.Int32(0); }));
  LOUPE_RETURN_IF_ERROR(
      db.ForEach("SELECT count(*) FROM sqlite_schema", [&](const SqliteRow& row) { mark.tables = row.Int(0); }));
  return mark;
}

absl::Status WriteFileMark(SqliteDb& db, int32_t application, int32_t version) {
  return db.Execute(fmt::format("PRAGMA application_id = {}; PRAGMA user_version = {};", application, version).c_str());
}

absl::Status MakeOrCheckSchema(SqliteDb& db, const OneSchema& schema) {
  LOUPE_ASSIGN_OR_RETURN(const FileMark mark, ReadFileMark(db));
  const bool ours = mark.application == schema.application && mark.version == schema.version;
  if (!ours && (mark.tables > 0 || mark.application != 0 || mark.version != 0)) {
    return absl::FailedPreconditionError(
        fmt::format("'{}' is not {} that this program can read: move it away", db.path(), schema.what));
  }
  if (mark.tables > 0) return absl::OkStatus();
  return db.WithTransaction("BEGIN IMMEDIATE", [&]() -> absl::Status {
    LOUPE_RETURN_IF_ERROR(db.Execute(schema.sql));
    return WriteFileMark(db, schema.application, schema.version);
  });
}

}  // namespace loupe::coordinator::store
