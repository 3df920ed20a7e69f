// Questions about some factors with others held fixed, as people type them: "input | output".
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace loupe::analysis::stats {

struct FactorQuestion {
  std::vector<std::string> factors;  // what it is about; at least one
  std::vector<std::string> within;   // what is held fixed; may be empty
};

// "input | output", "input:scale | output, activation", "input"; names that hold a separator in back-quotes
// (quoted_name.h). INVALID_ARGUMENT, beginning with `what` ("simple effects") and the question: a name is missing,
// a back-quote never closed, or a factor named twice. Whether there are such factors is not looked at.
absl::StatusOr<FactorQuestion> ParseFactorQuestion(std::string_view what, std::string_view question);

}  // namespace loupe::analysis::stats
