#include "coordinator/store/sqlite_db.h"

#include <cerrno>
#include <limits>

#include "common/error_details.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::coordinator::store {
namespace {

// synchronous=FULL: a commit is on the disk before it is acknowledged (NORMAL may lose it in a power cut).
// journal_size_limit: a WAL that grew under a long reader gives its space back when it starts anew. (When it is
// checkpointed is SqliteStore's business.) mmap stays off: an I/O error would be a signal instead of a status.
constexpr char kWriterPragmas[] =
    "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA mmap_size=0; "
    "PRAGMA journal_size_limit=67108864; PRAGMA cache_size=-65536; PRAGMA temp_store=MEMORY; PRAGMA trusted_schema=OFF;";
constexpr char kReaderPragmas[] =
    "PRAGMA query_only=ON; PRAGMA mmap_size=0; PRAGMA cache_size=-16384; PRAGMA temp_store=MEMORY; PRAGMA trusted_schema=OFF;";
// A reader can meet a moment of recovery or checkpoint; it waits that long before it gives up.
constexpr int kBusyTimeoutMs = 5000;

absl::StatusCode CodeOf(int result) {
  switch (result & 0xff) {
    case SQLITE_FULL:
      return absl::StatusCode::kResourceExhausted;
    case SQLITE_IOERR:
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return absl::StatusCode::kUnavailable;
    case SQLITE_READONLY:
      return absl::StatusCode::kFailedPrecondition;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return absl::StatusCode::kDataLoss;
    case SQLITE_CANTOPEN:
      return absl::StatusCode::kNotFound;
    case SQLITE_PERM:
      return absl::StatusCode::kPermissionDenied;
    default:
      break;
  }
  if (result == SQLITE_CONSTRAINT_UNIQUE || result == SQLITE_CONSTRAINT_PRIMARYKEY)
    return absl::StatusCode::kAlreadyExists;
  return absl::StatusCode::kInternal;
}

std::string_view AdviceFor(int result, int system_error) {
  switch (result & 0xff) {
    case SQLITE_FULL:
      return "the disk is full: free some space; the coordinator goes on by itself";
    case SQLITE_READONLY:
      return "the file or its folder is read-only: make it writable for this user";
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return "the file is damaged or no database: run 'loupe doctor', or restore a backup";
    case SQLITE_CANTOPEN:
      return "it cannot be opened: check that the folder exists and may be read";
    case SQLITE_IOERR:
      return system_error == EFBIG
                 ? "the file has reached this process' limit on file sizes: raise it (ulimit -f) and start again"
                 : "the disk reported an error: check the kernel's log";
    default:
      return "";
  }
}

}  // namespace

double SqliteRow::Real(int column) const {
  return IsNull(column) ? std::numeric_limits<double>::quiet_NaN() : sqlite3_column_double(statement_, column);
}

std::string SqliteRow::Text(int column) const {
  const void* bytes = sqlite3_column_blob(statement_, column);
  const int size = sqlite3_column_bytes(statement_, column);
  return bytes == nullptr ? std::string() : std::string(static_cast<const char*>(bytes), static_cast<size_t>(size));
}

std::optional<absl::Time> SqliteRow::OptionalTime(int column) const {
  if (IsNull(column)) return std::nullopt;
  return Time(column);
}

absl::StatusOr<std::unique_ptr<SqliteDb>> SqliteDb::Open(const std::string& path, Mode mode, const std::string& vfs) {
  int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  switch (mode) {
    case Mode::kReadWriteCreate:
      flags |= SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
      break;
    case Mode::kReadWrite:
      flags |= SQLITE_OPEN_READWRITE;
      break;
    case Mode::kReadOnly:
      flags |= SQLITE_OPEN_READONLY;
      break;
  }
  sqlite3* handle = nullptr;
  const int opened = sqlite3_open_v2(path.c_str(), &handle, flags, vfs.empty() ? nullptr : vfs.c_str());
  std::unique_ptr<SqliteDb> db(new SqliteDb(handle, path));
  if (opened != SQLITE_OK) return db->ErrorStatus(opened, "open");
  sqlite3_busy_timeout(handle, kBusyTimeoutMs);
  LOUPE_RETURN_IF_ERROR(db->Execute(mode == Mode::kReadOnly ? kReaderPragmas : kWriterPragmas));
  return db;
}

SqliteDb::~SqliteDb() {
  for (const auto& [sql, statement] : statements_) sqlite3_finalize(statement);
  sqlite3_close_v2(handle_);
}

absl::Status SqliteDb::Execute(const char* sql) {
  const int result = sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr);
  return result == SQLITE_OK ? absl::OkStatus() : ErrorStatus(result, sql);
}

absl::StatusOr<sqlite3_stmt*> SqliteDb::Prepared(const char* sql) {
  if (const auto found = statements_.find(sql); found != statements_.end()) return found->second;
  sqlite3_stmt* statement = nullptr;
  const int result = sqlite3_prepare_v3(handle_, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
  if (result != SQLITE_OK) return ErrorStatus(result, sql);
  statements_.emplace(sql, statement);
  return statement;
}

absl::Status SqliteDb::ErrorStatus(int result, std::string_view doing) const {
  const std::string_view advice = AdviceFor(result, handle_ == nullptr ? 0 : sqlite3_system_errno(handle_));
  const char* detail = handle_ == nullptr ? sqlite3_errstr(result) : sqlite3_errmsg(handle_);
  const absl::Status status(CodeOf(result), fmt::format("database '{}': {} (SQLite code {}, during: {:.60}){}{}", path_,
                                                        detail, result, doing, advice.empty() ? "" : "; ", advice));
  return WithReason(status, kReasonStoreUnavailable);
}

void SqliteDb::Bind(sqlite3_stmt* statement, int at, std::string_view value) {
  // SQLITE_STATIC: the arguments live until the statement has been stepped and reset. A null pointer would bind NULL.
  sqlite3_bind_text64(statement, at, value.data() == nullptr ? "" : value.data(), value.size(), SQLITE_STATIC,
                      SQLITE_UTF8);
}

void SqliteDb::Bind(sqlite3_stmt* statement, int at, Blob value) {
  sqlite3_bind_blob64(statement, at, value.bytes.data() == nullptr ? "" : value.bytes.data(), value.bytes.size(),
                      SQLITE_STATIC);
}

}  // namespace loupe::coordinator::store
