// What people ask of the coordinator's memory: sweeps, trials, attempts, points, results, artifacts.
//
// Thread law: from any thread at any time. Each call sees one snapshot, and none ever waits for the writer or makes it
// wait.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/scheduler/effects.h"
#include "coordinator/scheduler/model.h"

namespace loupe::coordinator::store {

// A trial as people see it.
struct TrialRow {
  int64_t index = 0;
  int64_t cell_index = 0;
  int32_t replicate = 0;
  TrialState state = TrialState::kQueued;
  int64_t epoch = 0;
  int32_t failed_attempts = 0;
  int32_t worker_losses = 0;
  std::optional<scheduler::Failure> last_failure;
  std::string cell_levels_json;
  std::map<std::string, double> scores;
  // Of the accepted result: not 0 where training was ended early, after this step.
  int64_t stopped_at_step = 0;
  // Of the latest attempt; empty and unset when there was none.
  std::string worker;
  std::optional<absl::Time> start_time;
  std::optional<absl::Time> end_time;
};

struct TrialFilter {
  // Index of the first trial that may be listed.
  int64_t from_index = 0;
  int64_t limit = 100;
  // Empty means all.
  std::set<TrialState> states;
};

// Trials as columns: what a page holds of all of a sweep's. Row i is trial `first` + i.
struct TrialColumns {
  int64_t first = 0;
  std::vector<TrialState> states;
  // Of the latest attempt; NaN while it runs, and where there is none.
  std::vector<float> seconds;
  // As TrialRow's.
  std::vector<uint32_t> stopped_at_steps;
  // Those that any of these trials has, NaN where one has not.
  std::map<std::string, std::vector<double>> scores;
};

// What an accepted result took.
struct ResultSeconds {
  int64_t trial = 0;
  double train = 0;
  double total = 0;
  // As its worker said ("cpu", "cuda:0"); empty when it did not.
  std::string device;
};

struct PointPosition {
  std::string metric;
  int64_t step = 0;
};

// One lease that was handed out, and what became of it.
struct AttemptRow {
  scheduler::TrialKey trial;
  std::string sweep_id;
  int64_t epoch = 0;
  std::string worker;
  scheduler::AttemptEnd outcome = scheduler::AttemptEnd::kRunning;
  std::optional<scheduler::Failure> failure;
  absl::Time start_time;
  std::optional<absl::Time> end_time;
};

// Which attempts: of one trial, of one sweep, or of all.
struct AttemptFilter {
  // 0: of all sweeps.
  scheduler::SweepKey sweep = 0;
  // Unset: of all the sweep's trials.
  std::optional<int64_t> trial;
  // Those that ended later, or still run.
  absl::Time ended_after = absl::InfinitePast();
  // Of attempts, those that come after this one in the order of the list.
  struct Position {
    absl::Time start_time;
    scheduler::TrialKey trial;
    int64_t epoch = 0;
  };
  std::optional<Position> after;
  int64_t limit = 1000;
};

// One score over all accepted results of a sweep.
struct ScoreSummary {
  int64_t results = 0;
  // NaN, and -1, when there are no results.
  double mean = 0;
  double best = 0;
  int64_t best_trial = -1;
};

// Everything a report reads, from one snapshot.
struct SweepSnapshot {
  scheduler::SweepRecord sweep;
  struct Trial {
    int64_t index = 0;
    int64_t cell_index = 0;
    int32_t replicate = 0;
    TrialState state = TrialState::kQueued;
    int64_t attempts = 0;
    std::string failure_message;
    // Of the accepted result.
    std::map<std::string, double> scores;
    double total_seconds = 0;
    int64_t stopped_at_step = 0;
    // Parameters trained, and bytes of their files; 0 when unknown.
    double parameters = 0;
    int64_t weight_bytes = 0;
    // Digest of the accepted attempt's artifact "samples.png"; empty when it has none.
    std::string samples_sha256;
    // Place in input_sets of what its result was computed from; -1 without a result.
    int32_t input_set = -1;
  };
  // All planned trials, by index.
  std::vector<Trial> trials;
  struct Curve {
    int64_t trial_index = 0;
    std::string metric;
    std::vector<std::pair<int64_t, double>> points;  // (step, value), by step
  };
  // Of accepted attempts, by (metric, trial).
  std::vector<Curve> curves;
  // Each different set of digests in the results' provenance ("scorer_sha256": …) once.
  std::vector<std::map<std::string, std::string>> input_sets;
  // How many results were computed in which arithmetic ("2, AVX2"; "1" where a result does not say).
  std::map<std::string, int64_t> numerics;
  // What workers noted about the sweep's pictures and prompts: each sentence once.
  std::vector<std::string> notes;
  // Of the first accepted result: versions and the like.
  std::map<std::string, std::string> provenance;
};

class StoreReader {
 public:
  virtual ~StoreReader() = default;

  // NOT_FOUND names the sweep.
  virtual absl::StatusOr<scheduler::SweepRecord> GetSweep(const std::string& id) = 0;

  // Ordered by key (the order of creation), newest first; `before` 0 means from the newest. Without the specifications.
  virtual absl::StatusOr<std::vector<scheduler::SweepRecord>> ListSweeps(scheduler::SweepKey before, int64_t limit) = 0;

  // Recounted from the rows.
  virtual absl::StatusOr<scheduler::TrialCounts> CountTrials(scheduler::SweepKey sweep) = 0;

  // NOT_FOUND when the sweep has no such trial.
  virtual absl::StatusOr<TrialRow> GetTrial(scheduler::TrialKey trial) = 0;
  // Ordered by index, at most `filter.limit`.
  virtual absl::StatusOr<std::vector<TrialRow>> ListTrials(scheduler::SweepKey sweep, const TrialFilter& filter) = 0;

  // At most `limit` trials from index `first` on.
  virtual absl::StatusOr<TrialColumns> ReadColumns(scheduler::SweepKey sweep, int64_t first, int64_t limit) = 0;
  // The results of the highest trial indexes, at most `limit`, of trials that had their whole budget.
  virtual absl::StatusOr<std::vector<ResultSeconds>> ListResultSeconds(scheduler::SweepKey sweep, int64_t limit) = 0;

  // NOT_FOUND when there is no such cell.
  virtual absl::StatusOr<std::string> GetCellLevelsJson(scheduler::SweepKey sweep, int64_t cell) = 0;

  // Indexes of ended trials in one of `states`, ordered.
  virtual absl::StatusOr<std::vector<int64_t>> FindTrials(scheduler::SweepKey sweep,
                                                          const std::set<TrialState>& states) = 0;

  // Points of one attempt after `after` in (metric, step) order, at most `limit`; `metric` empty means all.
  virtual absl::StatusOr<std::vector<scheduler::MetricPoint>> ListPoints(scheduler::TrialKey trial, int64_t epoch,
                                                                         const std::string& metric,
                                                                         const std::optional<PointPosition>& after,
                                                                         int64_t limit) = 0;

  // Latest start first.
  virtual absl::StatusOr<std::vector<AttemptRow>> ListAttempts(const AttemptFilter& filter) = 0;

  virtual absl::StatusOr<ScoreSummary> SummariseScore(scheduler::SweepKey sweep, const std::string& score,
                                                      bool smaller_is_better) = 0;
  // Results accepted after `since`.
  virtual absl::StatusOr<int64_t> CountAcceptedSince(scheduler::SweepKey sweep, absl::Time since) = 0;
  // What the accepted result says of its origin; empty when there is none.
  virtual absl::StatusOr<std::map<std::string, std::string>> GetProvenance(scheduler::TrialKey trial) = 0;

  // Of the attempt whose result counts, or else of the latest, ordered by name.
  virtual absl::StatusOr<std::vector<scheduler::ArtifactRecord>> ListArtifacts(scheduler::TrialKey trial) = 0;
  // NOT_FOUND when the attempt handed over no such artifact.
  virtual absl::StatusOr<scheduler::ArtifactRecord> GetArtifact(scheduler::TrialKey trial, int64_t epoch,
                                                                const std::string& name) = 0;

  // FAILED_PRECONDITION while the sweep is being created or deleted.
  virtual absl::StatusOr<SweepSnapshot> Snapshot(const std::string& sweep_id) = 0;
};

}  // namespace loupe::coordinator::store
