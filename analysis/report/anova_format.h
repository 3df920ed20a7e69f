// A factorial analysis as text, JSON or CSV, for `loupe anova` and as the core of a sweep's report.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/report/factorial_analysis.h"
#include "nlohmann/json_fwd.hpp"

namespace loupe::analysis::report {

// Tables for a terminal, at most 100 columns wide while level names are short.
std::string FormatAnovaText(const FactorialAnalysis& analysis);

// {"response", "formula", "ss_type", "terms": [{"term", "df", "sum_sq", "mean_sq", "f", "p", …}], "residual": {"df",
// "sum_sq", "mean_sq"}, "one_way": […], "means": …, "cells": […], …}; all keys in docs/report.md. Numbers read back to
// the same double; what does not exist is null, never NaN. Ends in a line break.
std::string FormatAnovaJson(const FactorialAnalysis& analysis);
// The same before it is printed, for callers that add keys.
nlohmann::ordered_json AnovaJson(const FactorialAnalysis& analysis);

// One line per term: kind,term,df,sum_sq,mean_sq,f,p,partial_eta_sq,partial_eta_sq_low,partial_eta_sq_high,omega_sq,
// estimable,note. The kinds: "anova", "residual", "one_way" (and "one_way_residual": each factor has its own).
std::string FormatAnovaCsv(const FactorialAnalysis& analysis);

// One of the tables as CSV, one line per term, mean, pair, …: "anova" (FormatAnovaCsv), "means" and "pairs" (of every
// factor, then of the simple effects, told apart by the column `within`), "simple-effects" (their F), "contrasts",
// "baseline" (cells less the named one), "cells" (best first), "methods", "methods-baseline" and "equal-parameters" (of
// a sweep over methods). What does not exist is an empty field; a table of which there is nothing is its header.
// INVALID_ARGUMENT: another name.
absl::StatusOr<std::string> FormatCsvTable(const FactorialAnalysis& analysis, std::string_view table);
std::vector<std::string> CsvTableNames();

// "output = FFN_in, scale = 1": what a simple effect holds fixed; "" for nothing.
std::string HeldText(const stats::SimpleEffects& simple, const stats::SimpleEffect& effect);

// Combinations at which nothing can be compared, a sentence for each reason: "rank: nothing to compare within input =
// Res_in; input = Res_out: only Res_out occurs there."
std::vector<std::string> NothingToCompare(const stats::SimpleEffects& simple);

// "I", "II" or "III".
std::string_view SumOfSquaresName(stats::SumOfSquares type);

// Shortest text that reads back to the same double; empty for NaN and what no double holds, as null in JSON.
std::string CsvNumber(double value);

}  // namespace loupe::analysis::report
