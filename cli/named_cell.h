// Lists of names and cells as people type them. A name or level with a comma, '=' or blanks at its ends goes in
// back-quotes.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/report/baseline_contrasts.h"

namespace loupe::cli {

// {"a,`lr, x10`", "b"} -> {a, "lr, x10", b}: an option's values, each a list separated by commas. INVALID_ARGUMENT: a
// back-quote that is never closed, text behind one, an empty name.
absl::StatusOr<std::vector<std::string>> ParseNames(const std::vector<std::string>& values);

// {"input=SA_in,scale=2"} or {"input=SA_in", "scale=2"} -> {input: SA_in, scale: 2}. INVALID_ARGUMENT: an entry without
// '=' or with nothing on one side of it, a factor twice, or bad back-quotes. Whether factors and levels exist is for
// the analysis to say.
absl::StatusOr<analysis::report::NamedCell> ParseNamedCell(const std::vector<std::string>& values);

}  // namespace loupe::cli
