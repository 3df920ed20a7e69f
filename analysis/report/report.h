// The report of a sweep: text for a terminal, JSON and CSV for programs, one self-contained HTML page for people.
//
// All four show the same numbers, those of AnalyseFactorial() on the trials that ended with the response. A sweep that
// is still running, or too small for an F test, gets a report too: it says what is missing instead of a table. Pure
// functions: same input, same bytes. Thread-safe as far as `results.load_sample_picture` is.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/report/factorial_analysis.h"
#include "analysis/report/sweep_results.h"

namespace loupe::analysis::report {

// The name of RenderCsv's own table.
inline constexpr const char* kTrialsTable = "trials";

struct ReportOptions {
  std::string response;  // a score's name; empty means the sweep's primary score
  std::string terms;     // formula, see analysis/stats/anova.h; empty means main effects
  stats::SumOfSquares ss_type = stats::SumOfSquares::kType2;
  double confidence = 0.95;
  bool include_stopped_early = false;
  // The cell that all others are contrasted with: one level of every factor. Empty: none.
  NamedCell baseline;
  // Of a sweep over methods: the one that the others are compared with. Empty: the first that has results.
  std::string baseline_method;
  // The same: compares methods also at their settings that train about this many parameters (equal_parameters.h).
  ParameterBudget equal_parameters;
  // Questions about means beyond those of each factor, see analysis/stats/contrasts.h: "input | output", and
  // "[input=SA_in] - [input=CA_in]". A question about what is not in the model is InvalidArgument.
  std::vector<std::string> simple_effects, contrasts;
  // Whether the levels of a factor put the cells of all others in the same order, within the levels of others and over
  // them: "base | subject" (level_rankings.h). Empty: not asked.
  std::string rankings_between;
  // Of RenderCsv: "trials" or one of FormatCsvTable's (anova_format.h). Empty: "trials".
  std::string csv_table;
  // A sweep whose cell ranking is compared with this one's, by the same response where it has that. Null: none.
  std::shared_ptr<const SweepResults> compare_with;
  // Pictures are embedded until this many bytes are used up; the rest of the grid says that they were left out. Keeps a
  // page that browsers and mail programs still open.
  int64_t max_picture_bytes = 24 << 20;
};

// InvalidArgument: a trial whose levels do not fit the factors; a response that no trial has though some succeeded (the
// sentence lists those there are); a bad formula; a baseline that is no cell of the factors. Never for missing trials.
absl::StatusOr<std::string> RenderText(const SweepResults& results, const ReportOptions& options);
absl::StatusOr<std::string> RenderJson(const SweepResults& results, const ReportOptions& options);
// One line per planned trial: trial, cell, replicate, state, stopped_early, the factors, every score (sorted by name),
// and stopped_at_step where any trial was stopped early;
// or what options.csv_table names (InvalidArgument: no such table).
absl::StatusOr<std::string> RenderCsv(const SweepResults& results, const ReportOptions& options);
absl::StatusOr<std::string> RenderHtml(const SweepResults& results, const ReportOptions& options);

// The observations that the analysis sees: factors, then "replicate" when there is more than one; one row per terminal
// trial. Errors as above.
absl::StatusOr<stats::DataTable> ObservationTable(const SweepResults& results, const ReportOptions& options);

// SHA-256 over what the analysis reads (factors, levels, states, replicates and the response of every trial, ascending
// by index) and the analysis' version: two reports with this hash show the same numbers.
std::string SnapshotHash(const SweepResults& results, const ReportOptions& options);

}  // namespace loupe::analysis::report
