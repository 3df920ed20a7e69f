// What every format of a sweep's report starts from: the analysis of one response, and counts of what became of the
// trials.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/report/factorial_analysis.h"
#include "analysis/report/level_rankings.h"
#include "analysis/report/ranking_agreement.h"
#include "analysis/report/report.h"
#include "analysis/report/sweep_results.h"

namespace loupe::analysis::report {

inline constexpr const char* kReplicateFactor = "replicate";

struct TrialCount {
  int64_t total = 0;
  int64_t queued = 0, running = 0, succeeded = 0, failed = 0, cancelled = 0, quarantined = 0;
  int64_t stopped_early = 0;     // among the succeeded
  int64_t without_response = 0;  // succeeded, but the score is not among theirs

  // "96 trials: 90 succeeded, 4 failed, 2 running."
  std::string Sentence() const;
};

struct SweepAnalysis {
  std::string response;
  TrialCount count;
  FactorialAnalysis analysis;
  std::optional<LevelRankings> level_rankings;  // only where they were asked for
  std::optional<RankingAgreement> agreement;    // only where a sweep to compare with was given
  std::string hash;
};

// Errors as report.h's functions.
absl::StatusOr<SweepAnalysis> AnalyseSweep(const SweepResults& results, const ReportOptions& options);

// Names of all scores that some trial or the baseline has, sorted.
std::vector<std::string> ScoreNames(const SweepResults& results);

// A score as shown: "CLIP-I" for "clip_i"; unknown names as they are.
std::string ScoreTitle(const std::string& score);

// Failed and quarantined trials by message, most frequent first.
struct FailureGroup {
  std::string message;
  std::vector<int64_t> trials;
};
std::vector<FailureGroup> FailureGroups(const SweepResults& results);

}  // namespace loupe::analysis::report
