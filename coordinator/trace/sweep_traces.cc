#include "coordinator/trace/sweep_traces.h"

#include <unistd.h>

#include <limits>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "common/logging.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "coordinator/store/file_mark.h"
#include "fmt/format.h"

namespace loupe::coordinator::trace {
namespace {

constexpr int kTracesApplicationId = 0x4c6f5472;
constexpr int kTracesVersion = 1;
constexpr char kTraceSchemaSql[] =
    "CREATE TABLE sweep_traces (sweep_uid TEXT PRIMARY KEY, traceparent TEXT NOT NULL) STRICT;";
// As programs before the mark made it.
constexpr char kUnmarkedSql[] = "SELECT count(*) FROM sqlite_schema WHERE tbl_name = 'sweep_traces'";
constexpr char kPutTraceSql[] = "INSERT OR REPLACE INTO sweep_traces (sweep_uid, traceparent) VALUES (?, ?)";
constexpr char kTracesSql[] = "SELECT sweep_uid, traceparent FROM sweep_traces ORDER BY sweep_uid";
constexpr char kForgetTraceSql[] = "DELETE FROM sweep_traces WHERE sweep_uid = ?";

std::string SpanIdOf(const std::string& sweep_uid, int64_t trial, int64_t epoch) {
  return Sha256Hex(fmt::format("attempt {} {} {}", sweep_uid, trial, epoch)).substr(0, 16);
}

const char* OutcomeName(scheduler::AttemptEnd outcome) {
  switch (outcome) {
    case scheduler::AttemptEnd::kRunning:
      return "running";
    case scheduler::AttemptEnd::kSucceeded:
      return "succeeded";
    case scheduler::AttemptEnd::kFailed:
      return "failed";
    case scheduler::AttemptEnd::kLost:
      return "lost";
    case scheduler::AttemptEnd::kStopped:
      break;
  }
  return "stopped";
}

}  // namespace

SweepTraces::SweepTraces(std::string path, store::StoreReader& store, loupe::trace::SpanExporter* exporter)
    : path_(std::move(path)), exporter_(exporter) {
  if (::access(path_.c_str(), F_OK) != 0) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  if (const absl::Status status = Load(store); !status.ok()) {
    LogError("traces of sweeps are lost: {}", std::string(status.message()));
    db_.reset();
  }
}

absl::Status SweepTraces::Open() {
  if (db_ != nullptr) return absl::OkStatus();
  LOUPE_ASSIGN_OR_RETURN(std::unique_ptr<store::SqliteDb> db,
                         store::SqliteDb::Open(path_, store::SqliteDb::Mode::kReadWriteCreate, ""));
  LOUPE_ASSIGN_OR_RETURN(const store::FileMark mark, store::ReadFileMark(*db));
  int64_t ours = 0;
  LOUPE_RETURN_IF_ERROR(db->ForEach(kUnmarkedSql, [&](const store::SqliteRow& row) { ours = row.Int(0); }));
  if (mark.application == 0 && mark.version == 0 && ours > 0 && ours == mark.tables) {
    LOUPE_RETURN_IF_ERROR(store::WriteFileMark(*db, kTracesApplicationId, kTracesVersion));
  }
  LOUPE_RETURN_IF_ERROR(store::MakeOrCheckSchema(*db, {.application = kTracesApplicationId,
                                                       .version = kTracesVersion,
                                                       .sql = kTraceSchemaSql,
                                                       .what = "a database of traces"}));
  LOUPE_RETURN_IF_ERROR(db->Execute("PRAGMA synchronous=NORMAL;"));
  db_ = std::move(db);
  return absl::OkStatus();
}

absl::Status SweepTraces::Load(store::StoreReader& store) {
  LOUPE_RETURN_IF_ERROR(Open());
  LOUPE_RETURN_IF_ERROR(db_->ForEach(kTracesSql, [&](const store::SqliteRow& row) {
    if (const auto context = loupe::trace::ParseTraceparent(row.Text(1)); context) contexts_[row.Text(0)] = *context;
  }));
  LOUPE_ASSIGN_OR_RETURN(const std::vector<scheduler::SweepRecord> sweeps,
                         store.ListSweeps(0, std::numeric_limits<int64_t>::max()));
  std::map<std::string, loupe::trace::TraceContext> gone = contexts_;
  for (const scheduler::SweepRecord& sweep : sweeps) {
    gone.erase(sweep.uid);
    NoteSweep(sweep);
    if (!sweeps_.contains(sweep.key)) continue;
    // Those that run.
    const store::AttemptFilter filter{.sweep = sweep.key,
                                      .trial = std::nullopt,
                                      .ended_after = absl::FromUnixSeconds(int64_t{1} << 40),
                                      .after = std::nullopt,
                                      .limit = std::numeric_limits<int64_t>::max()};
    LOUPE_ASSIGN_OR_RETURN(const std::vector<store::AttemptRow> attempts, store.ListAttempts(filter));
    for (const store::AttemptRow& attempt : attempts)
      running_[attempt.trial] = {attempt.epoch, attempt.worker, attempt.start_time};
  }
  for (const auto& [uid, context] : gone) {
    contexts_.erase(uid);
    LOUPE_RETURN_IF_ERROR(db_->Run(kForgetTraceSql, std::string_view(uid)));
  }
  return absl::OkStatus();
}

void SweepTraces::Keep(const std::string& sweep_uid, const loupe::trace::TraceContext& context) {
  if (!context.sampled) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  contexts_[sweep_uid] = context;
  absl::Status status = Open();
  if (status.ok())
    status =
        db_->Run(kPutTraceSql, std::string_view(sweep_uid), std::string_view(loupe::trace::ToTraceparent(context)));
  if (!status.ok())
    LogWarning("the trace of a sweep would not outlive this process: {}", std::string(status.message()));
}

void SweepTraces::Forget(const std::string& sweep_uid) {
  const std::lock_guard<std::mutex> lock(mutex_);
  // A row that cannot be removed goes at the next start.
  if (contexts_.erase(sweep_uid) > 0 && db_ != nullptr)
    db_->Run(kForgetTraceSql, std::string_view(sweep_uid)).IgnoreError();
}

std::string SweepTraces::TraceparentOf(const std::string& sweep_uid, int64_t trial, int64_t epoch) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = contexts_.find(sweep_uid);
  if (found == contexts_.end()) return "";
  loupe::trace::TraceContext context = found->second;
  if (exporter_ != nullptr) context.span_id = SpanIdOf(sweep_uid, trial, epoch);
  return loupe::trace::ToTraceparent(context);
}

void SweepTraces::NoteSweep(const scheduler::SweepRecord& sweep) {
  if (const auto found = contexts_.find(sweep.uid); found != contexts_.end())
    sweeps_[sweep.key] = {sweep.id, sweep.uid, found->second};
}

void SweepTraces::Note(const scheduler::Effects& committed) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (contexts_.empty()) return;
  for (const scheduler::Effect& effect : committed) {
    if (const auto* insert = std::get_if<scheduler::InsertSweep>(&effect)) {
      NoteSweep(insert->sweep);
    } else if (const auto* start = std::get_if<scheduler::StartAttempt>(&effect)) {
      if (sweeps_.contains(start->trial.sweep))
        running_[start->trial] = {start->epoch, start->worker, start->start_time};
    } else if (const auto* end = std::get_if<scheduler::EndAttempt>(&effect)) {
      End(*end);
    } else if (const auto* purge = std::get_if<scheduler::PurgeSweep>(&effect)) {
      // Its row goes at the next start.
      if (const auto sweep = sweeps_.find(purge->sweep); sweep != sweeps_.end()) {
        contexts_.erase(sweep->second.uid);
        sweeps_.erase(sweep);
      }
    }
  }
}

void SweepTraces::End(const scheduler::EndAttempt& end) {
  const auto sweep = sweeps_.find(end.trial.sweep);
  const auto running = running_.find(end.trial);
  if (sweep == sweeps_.end() || running == running_.end() || running->second.epoch != end.epoch) return;
  const Running began = std::move(running->second);
  running_.erase(running);
  if (exporter_ == nullptr) return;
  const auto& [id, uid, context] = sweep->second;
  const bool failed = end.outcome == scheduler::AttemptEnd::kFailed || end.outcome == scheduler::AttemptEnd::kLost;
  exporter_->Add({.trace_id = context.trace_id,
                  .span_id = SpanIdOf(uid, end.trial.index, end.epoch),
                  .parent_id = context.span_id,
                  .name = "attempt",
                  .start = began.start,
                  .end = end.end_time,
                  .attributes = {{"loupe.trial", fmt::format("sweeps/{}/trials/{}", id, end.trial.index)},
                                 {"loupe.attempt", end.epoch},
                                 {"loupe.worker", "workers/" + began.worker},
                                 {"loupe.outcome", OutcomeName(end.outcome)}},
                  .error = !failed       ? ""
                           : end.failure ? end.failure->message
                                         : "its worker was lost"});
}

}  // namespace loupe::coordinator::trace
