// What is known of each method besides its settings, without LibTorch: which combinations of them mean something.
//
// A method that has such a rule adds a row to the table in methods.cc; nothing else of the plan names a method.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/positions.h"

namespace loupe::settings {

// Which combinations of a method's own settings are legal, where not all are.
struct LegalityRule {
  // Value of method.kind.
  std::string kind;
  // The settings on whose values together it depends.
  std::vector<std::string> keys;
  // What a combination of them is called: "pair".
  std::string noun;
  // `values`: canonical, one for each of `keys`. Says why they are not legal and what is; empty when they are.
  std::string (*why_illegal)(const std::vector<std::string_view>& values);
};

// nullptr where every combination is legal, and for a kind that is none.
const LegalityRule* FindLegalityRule(std::string_view kind);

// Why (input, output) is no legal pair, and what is: "… is not legal: …; legal outputs of CA_out are FFN_in,
// Trans_out". Precondition: the pair is not legal.
std::string WhyIllegal(Position input, Position output);

}  // namespace loupe::settings
