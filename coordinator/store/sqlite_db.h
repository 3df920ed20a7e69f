// One SQLite connection and its prepared statements, as absl::Status.
//
//   LOUPE_RETURN_IF_ERROR(db.Run(kInsertSql, key, name));
//   LOUPE_RETURN_IF_ERROR(db.ForEach(kSelectSql, [&](const SqliteRow& row) { names.push_back(row.Text(0)); }, key));
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace loupe::coordinator::store {

// The current row of a query. Valid only inside ForEach's callback.
class SqliteRow {
 public:
  explicit SqliteRow(sqlite3_stmt* statement) : statement_(statement) {}
  int64_t Int(int column) const { return sqlite3_column_int64(statement_, column); }
  int32_t Int32(int column) const { return sqlite3_column_int(statement_, column); }
  bool IsNull(int column) const { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }
  // NaN for NULL: SQLite keeps no NaN.
  double Real(int column) const;
  // Text or blob bytes.
  std::string Text(int column) const;
  absl::Time Time(int column) const { return absl::FromUnixMicros(Int(column)); }
  std::optional<absl::Time> OptionalTime(int column) const;

 private:
  sqlite3_stmt* statement_;
};

// Binds as a BLOB; std::string_view binds as TEXT.
struct Blob {
  std::string_view bytes;
};

// Not thread-safe: one thread at a time.
class SqliteDb {
 public:
  enum class Mode { kReadWriteCreate, kReadWrite, kReadOnly };

  // Opens the file and sets the connection's PRAGMAs (the only place where they are set). `vfs` empty means the
  // system's. Errors as Commit's in store.h, each naming the path.
  static absl::StatusOr<std::unique_ptr<SqliteDb>> Open(const std::string& path, Mode mode, const std::string& vfs);
  ~SqliteDb();
  SqliteDb(const SqliteDb&) = delete;
  SqliteDb& operator=(const SqliteDb&) = delete;

  // One or more statements without parameters or results.
  absl::Status Execute(const char* sql);

  // `sql` must outlive the connection (a constant): its statement is prepared once and kept.
  template <typename... Args>
  absl::Status Run(const char* sql, const Args&... args) {
    return ForEach(
        sql, [](const SqliteRow&) {}, args...);
  }

  template <typename RowFn, typename... Args>
  absl::Status ForEach(const char* sql, RowFn row_fn, const Args&... args) {
    absl::StatusOr<sqlite3_stmt*> statement = Prepared(sql);
    if (!statement.ok()) return statement.status();
    // Leaves the statement reset, whatever happens: an open one would pin the WAL.
    const std::unique_ptr<sqlite3_stmt, int (*)(sqlite3_stmt*)> reset(*statement, &sqlite3_reset);
    int at = 0;
    (Bind(*statement, ++at, args), ...);
    int result = 0;
    while ((result = sqlite3_step(*statement)) == SQLITE_ROW) row_fn(SqliteRow(*statement));
    return result == SQLITE_DONE ? absl::OkStatus() : ErrorStatus(result, sql);
  }

  // Rows that the last INSERT, UPDATE or DELETE changed.
  int64_t Changes() const { return sqlite3_changes64(handle_); }

  // Runs `body` between BEGIN and COMMIT (BEGIN IMMEDIATE where it writes); rolls back when it fails, by an exception
  // too.
  template <typename Body>
  absl::Status WithTransaction(const char* begin_sql, Body body) {
    if (absl::Status begun = Execute(begin_sql); !begun.ok()) return begun;
    // What is still open at the end, be it by a failed COMMIT, is not to be there. Takes none of our memory.
    const std::unique_ptr<sqlite3, void (*)(sqlite3*)> rollback(handle_, [](sqlite3* handle) {
      if (sqlite3_get_autocommit(handle) == 0) sqlite3_exec(handle, "ROLLBACK", nullptr, nullptr, nullptr);
    });
    absl::Status status = body();
    if (status.ok()) status = Execute("COMMIT");
    return status;
  }

  sqlite3* handle() { return handle_; }
  const std::string& path() const { return path_; }

 private:
  SqliteDb(sqlite3* handle, std::string path) : handle_(handle), path_(std::move(path)) {}

  absl::StatusOr<sqlite3_stmt*> Prepared(const char* sql);
  absl::Status ErrorStatus(int result, std::string_view doing) const;

  static void Bind(sqlite3_stmt* statement, int at, int64_t value) { sqlite3_bind_int64(statement, at, value); }
  static void Bind(sqlite3_stmt* statement, int at, int32_t value) { sqlite3_bind_int(statement, at, value); }
  static void Bind(sqlite3_stmt* statement, int at, double value) { sqlite3_bind_double(statement, at, value); }
  static void Bind(sqlite3_stmt* statement, int at, std::string_view value);
  static void Bind(sqlite3_stmt* statement, int at, Blob value);
  static void Bind(sqlite3_stmt* statement, int at, std::nullopt_t) { sqlite3_bind_null(statement, at); }
  static void Bind(sqlite3_stmt* statement, int at, absl::Time value) {
    Bind(statement, at, absl::ToUnixMicros(value));
  }
  template <typename T>
  static void Bind(sqlite3_stmt* statement, int at, const std::optional<T>& value) {
    if (value.has_value()) {
      Bind(statement, at, *value);
    } else {
      Bind(statement, at, std::nullopt);
    }
  }

  sqlite3* handle_;
  const std::string path_;
  // Keyed by the constant's address.
  std::unordered_map<const char*, sqlite3_stmt*> statements_;
};

}  // namespace loupe::coordinator::store
