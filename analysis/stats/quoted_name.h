// Names of columns and levels as people type them, in formulas and on the command line: a name that holds an operator,
// a comma or a blank goes in back-quotes, as in R: `lr (x10)`. A back-quote within them is written twice.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace loupe::analysis::stats {

// Whether a name of these may stand without back-quotes: letters, digits, '_', '.', and everything beyond ASCII.
bool IsPlainNameCharacter(char c);

// `name`, in back-quotes where it needs them.
std::string QuoteName(std::string_view name);

// The name that begins at text[at], a back-quote; `at` is moved behind the closing one. INVALID_ARGUMENT: it is never
// closed.
absl::StatusOr<std::string> ReadQuotedName(std::string_view text, size_t& at);

// A name as typed: without the blanks around it, and without back-quotes where it stands in them.
// INVALID_ARGUMENT: text after the closing back-quote, or none.
absl::StatusOr<std::string> UnquoteName(std::string_view text);

// Splits at separators that are not within back-quotes; the parts are as typed. {} of an empty text is {""}.
std::vector<std::string_view> SplitOutsideQuotes(std::string_view text, char separator);

}  // namespace loupe::analysis::stats
