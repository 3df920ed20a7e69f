#include "coordinator/store/tables/attempts_table.h"

#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>

#include "common/sha256.h"
#include "common/status_macros.h"
#include "common/text.h"
#include "fmt/format.h"

namespace loupe::coordinator::store::attempts_table {
namespace {

constexpr char kInsertSql[] =
    "INSERT INTO attempts (sweep_key, trial_index, epoch, token_sha256, worker, session, start_time_us, outcome) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, 0)";
constexpr char kEndSql[] =
    "UPDATE attempts SET outcome = ?, failure_class = ?, failure_message = ?, end_time_us = ? "
    "WHERE sweep_key = ? AND trial_index = ? AND epoch = ? AND outcome = 0";
constexpr char kSupersededSql[] =
    "UPDATE attempts SET superseded_result = ? WHERE sweep_key = ? AND trial_index = ? AND epoch = ? AND token_sha256 = ?";
constexpr char kSequenceSql[] =
    "UPDATE attempts SET point_sequence = ? WHERE sweep_key = ? AND trial_index = ? AND epoch = ?";
constexpr char kLiveArtifactsSql[] =
    "SELECT sweep_key, trial_index, a.name FROM attempts JOIN artifacts AS a USING (sweep_key, trial_index, epoch) "
    "WHERE outcome = 0 ORDER BY sweep_key, trial_index, a.name";
constexpr char kLiveSql[] =
    "SELECT sweep_key, trial_index, epoch, token_sha256, worker, session, start_time_us, point_sequence FROM attempts "
    "WHERE outcome = 0 ORDER BY sweep_key, trial_index";

#define LOUPE_ATTEMPT_SELECT(which)                                                                            \
  "SELECT s.sweep_id, a.sweep_key, a.trial_index, a.epoch, a.worker, a.outcome, a.failure_class, "             \
  "a.failure_message, a.start_time_us, a.end_time_us FROM attempts AS a JOIN sweeps AS s USING (sweep_key) "   \
  "WHERE " which                                                                                               \
  "(a.end_time_us IS NULL OR a.end_time_us > ?) AND (a.start_time_us, a.sweep_key, a.trial_index, a.epoch) < " \
  "(?, ?, ?, ?) ORDER BY a.start_time_us DESC, a.sweep_key DESC, a.trial_index DESC, a.epoch DESC LIMIT ?"
constexpr char kListSql[] = LOUPE_ATTEMPT_SELECT("");
constexpr char kListOfSweepSql[] = LOUPE_ATTEMPT_SELECT("a.sweep_key = ? AND ");
constexpr char kListOfTrialSql[] = LOUPE_ATTEMPT_SELECT("a.sweep_key = ? AND a.trial_index = ? AND ");
#undef LOUPE_ATTEMPT_SELECT

AttemptRow ReadAttempt(const SqliteRow& row) {
  AttemptRow attempt;
  attempt.sweep_id = row.Text(0);
  attempt.trial = {row.Int(1), row.Int(2)};
  attempt.epoch = row.Int(3);
  attempt.worker = row.Text(4);
  attempt.outcome = static_cast<scheduler::AttemptEnd>(row.Int32(5));
  if (!row.IsNull(6))
    attempt.failure = scheduler::Failure{static_cast<scheduler::FailureClass>(row.Int32(6)), ToUtf8(row.Text(7))};
  attempt.start_time = row.Time(8);
  attempt.end_time = row.OptionalTime(9);
  return attempt;
}

}  // namespace

absl::Status Insert(SqliteDb& db, const scheduler::StartAttempt& start) {
  return db.Run(kInsertSql, start.trial.sweep, start.trial.index, start.epoch, std::string_view(start.token_sha256),
                std::string_view(start.worker), std::string_view(start.session), start.start_time);
}

absl::Status End(SqliteDb& db, const scheduler::EndAttempt& end) {
  std::optional<int32_t> failure_class;
  std::optional<std::string_view> message;
  if (end.failure) {
    failure_class = static_cast<int32_t>(end.failure->failure_class);
    message = end.failure->message;
  }
  LOUPE_RETURN_IF_ERROR(db.Run(kEndSql, static_cast<int32_t>(end.outcome), failure_class, message, end.end_time,
                               end.trial.sweep, end.trial.index, end.epoch));
  if (db.Changes() == 1) return absl::OkStatus();
  return absl::InternalError(
      fmt::format("attempt {} of trial {} of sweep {} is not running", end.epoch, end.trial.index, end.trial.sweep));
}

absl::Status KeepSuperseded(SqliteDb& db, const scheduler::KeepSupersededResult& late) {
  const std::string json = nlohmann::json{{"scores", late.result.scores},
                                          {"artifacts", late.result.artifacts},
                                          {"total_seconds", late.result.total_seconds}}
                               .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  const std::string token_sha256 = Sha256Hex(late.token_hex);
  return db.Run(kSupersededSql, std::string_view(json), late.trial.sweep, late.trial.index, late.epoch,
                std::string_view(token_sha256));
}

absl::Status SetPointSequence(SqliteDb& db, scheduler::TrialKey trial, int64_t epoch, int64_t sequence) {
  return db.Run(kSequenceSql, sequence, trial.sweep, trial.index, epoch);
}

absl::StatusOr<std::vector<AttemptRow>> List(SqliteDb& db, const AttemptFilter& filter) {
  std::vector<AttemptRow> attempts;
  const auto add = [&](const SqliteRow& row) { attempts.push_back(ReadAttempt(row)); };
  constexpr int64_t kLast = std::numeric_limits<int64_t>::max();
  // Microseconds: those of the infinite past would not fit.
  const int64_t ended_after = filter.ended_after == absl::InfinitePast() ? std::numeric_limits<int64_t>::min()
                                                                         : absl::ToUnixMicros(filter.ended_after);
  const int64_t before = filter.after ? absl::ToUnixMicros(filter.after->start_time) : kLast;
  const scheduler::TrialKey trial = filter.after ? filter.after->trial : scheduler::TrialKey{kLast, kLast};
  const int64_t epoch = filter.after ? filter.after->epoch : kLast;
  absl::Status status;
  if (filter.sweep == 0) {
    status = db.ForEach(kListSql, add, ended_after, before, trial.sweep, trial.index, epoch, filter.limit);
  } else if (!filter.trial) {
    status = db.ForEach(kListOfSweepSql, add, filter.sweep, ended_after, before, trial.sweep, trial.index, epoch,
                        filter.limit);
  } else {
    status = db.ForEach(kListOfTrialSql, add, filter.sweep, *filter.trial, ended_after, before, trial.sweep,
                        trial.index, epoch, filter.limit);
  }
  LOUPE_RETURN_IF_ERROR(status);
  return attempts;
}

absl::Status ForEachLive(SqliteDb& db, const std::function<void(LiveAttempt)>& fn) {
  std::map<scheduler::TrialKey, std::set<std::string>> artifacts;
  LOUPE_RETURN_IF_ERROR(db.ForEach(kLiveArtifactsSql, [&](const SqliteRow& row) {
    artifacts[{row.Int(0), row.Int(1)}].insert(row.Text(2));
  }));
  return db.ForEach(kLiveSql, [&](const SqliteRow& row) {
    LiveAttempt attempt;
    attempt.trial = {row.Int(0), row.Int(1)};
    attempt.epoch = row.Int(2);
    attempt.token_sha256 = row.Text(3);
    attempt.worker = row.Text(4);
    attempt.session = row.Text(5);
    attempt.start_time = row.Time(6);
    attempt.point_sequence = row.Int(7);
    attempt.artifacts = std::move(artifacts[attempt.trial]);
    fn(std::move(attempt));
  });
}

}  // namespace loupe::coordinator::store::attempts_table
