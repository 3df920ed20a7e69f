// Contrasts as people write them: sums of marginal means with weights.
//
//   sum     ::= product {('+' | '-') product}
//   product ::= factor {('*' | '/') factor}
//   factor  ::= number | mean | '(' sum ')' | '-' factor
//   mean    ::= '[' name '=' level {',' name '=' level} ']'
//
// "[input=SA_in] - ([input=CA_in] + [input=CA_out])/2". A factor that a mean does not name is averaged over, each of
// its levels with the same weight. Names and levels with ',', '=' or ']' in them go in backquotes; spaces round them do
// not count.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace loupe::analysis::stats {

// Factor -> level, and the weight of the mean at these levels. No weight is 0.
using WeightedMeans = std::map<std::map<std::string, std::string>, double>;

// InvalidArgument (a sentence with the place): anything else, a sum of a mean and a number, a product or quotient by a
// mean, a division by 0, nothing left, more than 1000 characters.
absl::StatusOr<WeightedMeans> ParseContrast(std::string_view formula);

}  // namespace loupe::analysis::stats
