// Tables `results` and `scores`: exactly one accepted result per trial, by the primary key; and `sweep_inputs`: what a
// sweep's results were computed from.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/scheduler/effects.h"
#include "coordinator/store/sqlite_db.h"
#include "coordinator/store/store_reader.h"

namespace loupe::coordinator::store::results_table {

// ALREADY_EXISTS when the trial has an accepted result.
absl::Status Insert(SqliteDb& db, const scheduler::AcceptResult& accept);

// ALREADY_EXISTS when the sweep has that input.
absl::Status InsertInput(SqliteDb& db, const scheduler::RecordInput& input);
absl::Status ForEachInput(SqliteDb& db, const std::function<void(scheduler::RecordInput)>& fn);

// Scores of trials with index in [first, last], by (trial, name).
absl::Status ForEachScore(SqliteDb& db, scheduler::SweepKey sweep, int64_t first, int64_t last,
                          const std::function<void(int64_t index, std::string name, double value)>& fn);
// The scores of the trials that `columns` has.
absl::Status FillScores(SqliteDb& db, scheduler::SweepKey sweep, TrialColumns& columns);
// Of the highest trial indexes, at most `limit`; without those that were ended early.
absl::StatusOr<std::vector<ResultSeconds>> ListSeconds(SqliteDb& db, scheduler::SweepKey sweep, int64_t limit);
// Accepted results by trial index; the parameters trained are 0 where the worker did not say.
absl::Status ForEachResult(
    SqliteDb& db, scheduler::SweepKey sweep,
    const std::function<void(int64_t index, double total_seconds, double parameters, int64_t stopped_at_step)>& fn);
// The digests ("scorer_sha256") in accepted results' provenance, by trial.
absl::Status ForEachDigest(SqliteDb& db, scheduler::SweepKey sweep,
                           const std::function<void(int64_t index, std::string name, std::string sha256)>& fn);
// Results by the arithmetic that they were computed in ("numerics" in their provenance); "1" where it does not say.
absl::StatusOr<std::map<std::string, int64_t>> Numerics(SqliteDb& db, scheduler::SweepKey sweep);

// What workers noted about pictures and prompts ("note.…" in a result's provenance): each sentence once, 20 at most.
absl::StatusOr<std::vector<std::string>> Notes(SqliteDb& db, scheduler::SweepKey sweep);
// One score over all accepted results of a sweep; of equally good trials the first is the best.
absl::StatusOr<ScoreSummary> Summarise(SqliteDb& db, scheduler::SweepKey sweep, const std::string& score,
                                       bool smaller_is_better);
absl::StatusOr<int64_t> CountSince(SqliteDb& db, scheduler::SweepKey sweep, absl::Time since);
// Of a trial's accepted result; empty when there is none.
absl::StatusOr<std::map<std::string, std::string>> Provenance(SqliteDb& db, scheduler::TrialKey trial);
// Of the sweep's first accepted result; empty when there is none.
absl::StatusOr<std::map<std::string, std::string>> FirstProvenance(SqliteDb& db, scheduler::SweepKey sweep);

}  // namespace loupe::coordinator::store::results_table
