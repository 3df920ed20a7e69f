#include "coordinator/store/attempts_table.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/escaping.h"
#include "common/random_source.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::coordinator::attempts_table {
namespace {

constexpr char kInsertSql[] =
    "INSERT INTO attempts (sweep_key, trial_index, epoch, token, worker, session, start_time_us, outcome) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, 0)";
constexpr char kEndSql[] =
    "UPDATE attempts SET outcome = ?, failure_class = ?, failure_message = ?, end_time_us = ? "
    "WHERE sweep_key = ? AND trial_index = ? AND epoch = ? AND outcome = 0";
constexpr char kSupersededSql[] =
    "UPDATE attempts SET superseded_result = ? WHERE sweep_key = ? AND trial_index = ? AND epoch = ? AND token = ?";
constexpr char kSequenceSql[] =
    "UPDATE attempts SET point_sequence = ? WHERE sweep_key = ? AND trial_index = ? AND epoch = ?";
constexpr char kLiveSql[] =
    "SELECT sweep_key, trial_index, epoch, token, worker, session, start_time_us, point_sequence FROM attempts "
    "WHERE outcome = 0 ORDER BY sweep_key, trial_index";

Token128 ParseToken(const std::string& hex) {
  Token128 token{};
  const std::string bytes = absl::HexStringToBytes(hex);
  std::copy_n(bytes.begin(), std::min(bytes.size(), token.size()), token.begin());
  return token;
}

}  // namespace

absl::Status Insert(SqliteDb& db, const StartAttempt& start) {
  const std::string token = ToHex(start.token);
  return db.Run(kInsertSql, start.trial.sweep, start.trial.index, start.epoch, std::string_view(token),
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
  return db.Run(kSupersededSql, std::string_view(json), late.trial.sweep, late.trial.index, late.epoch,
                std::string_view(late.token_hex));
}

absl::Status SetPointSequence(SqliteDb& db, TrialKey trial, int64_t epoch, int64_t sequence) {
  return db.Run(kSequenceSql, sequence, trial.sweep, trial.index, epoch);
}

absl::Status ForEachLive(SqliteDb& db, const std::function<void(LiveAttempt)>& fn) {
  return db.ForEach(kLiveSql, [&](const SqliteRow& row) {
    LiveAttempt attempt;
    attempt.trial = {row.Int(0), row.Int(1)};
    attempt.epoch = row.Int(2);
    attempt.token = ParseToken(row.Text(3));
    attempt.worker = row.Text(4);
    attempt.session = row.Text(5);
    attempt.start_time = row.Time(6);
    attempt.point_sequence = row.Int(7);
    fn(std::move(attempt));
  });
}

}  // namespace loupe::coordinator::attempts_table
