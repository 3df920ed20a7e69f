#include "coordinator/store/attempts_table.h"

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>

#include "common/sha256.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::coordinator::attempts_table {
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

}  // namespace

absl::Status Insert(SqliteDb& db, const StartAttempt& start) {
  return db.Run(kInsertSql, start.trial.sweep, start.trial.index, start.epoch, std::string_view(start.token_sha256),
                std::string_view(start.worker), std::string_view(start.session), start.start_time);
}

absl::Status End(SqliteDb& db, const EndAttempt& end) {
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

absl::Status KeepSuperseded(SqliteDb& db, const KeepSupersededResult& late) {
  const std::string json = nlohmann::json{{"scores", late.result.scores},
                                          {"artifacts", late.result.artifacts},
                                          {"total_seconds", late.result.total_seconds}}
                               .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  const std::string token_sha256 = Sha256Hex(late.token_hex);
  return db.Run(kSupersededSql, std::string_view(json), late.trial.sweep, late.trial.index, late.epoch,
                std::string_view(token_sha256));
}

absl::Status SetPointSequence(SqliteDb& db, TrialKey trial, int64_t epoch, int64_t sequence) {
  return db.Run(kSequenceSql, sequence, trial.sweep, trial.index, epoch);
}

absl::Status ForEachLive(SqliteDb& db, const std::function<void(LiveAttempt)>& fn) {
  std::map<TrialKey, std::set<std::string>> artifacts;
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

}  // namespace loupe::coordinator::attempts_table
