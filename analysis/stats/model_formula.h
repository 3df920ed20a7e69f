// Model terms from text such as "input*output + scale" (Wilkinson & Rogers 1973, Applied Statistics 22:392).
//
//   a + b      both            a:b        their interaction        a*b     a + b + a:b
//   (a+b+c)^2  all of a, b, c and their pairs                      a*b-a:b  a + b
// Precedence ^ before : before * before + and −. A name with other characters than letters, digits, '_' and '.' goes in
// back-quotes (quoted_name.h); "response ~" may stand in front. The intercept is always in the model. Terms come out
// ordered by order of interaction (main effects first), then as written, as R orders them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/stats/data_table.h"

namespace loupe::analysis::stats {

// Indices into DataTable::factors, ascending, no repeats. {} is the intercept and never listed.
using ModelTerm = std::vector<size_t>;

// InvalidArgument (a sentence with the place): unknown name, unbalanced parenthesis, another response before a '~', an
// empty formula or term, more than 64 parentheses in each other or 256 terms.
absl::StatusOr<std::vector<ModelTerm>> ParseModelFormula(std::string_view formula, const DataTable& data);

// "a:b" in factor order of the term; names as in a formula, so that the factor `a:b` is not taken for the interaction.
// What a nested factor of the term is nested in is not named.
std::string TermName(const ModelTerm& term, const DataTable& data);

// "a + b + a:b".
std::string FormulaText(const std::vector<ModelTerm>& terms, const DataTable& data);

// True if every factor of `inner` is in `outer` (equal terms included).
bool IsContained(const ModelTerm& inner, const ModelTerm& outer);

}  // namespace loupe::analysis::stats
