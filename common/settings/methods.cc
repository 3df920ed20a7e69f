#include "common/settings/methods.h"

#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::settings {
namespace {

std::string_view PositionKindText(PositionKind kind) {
  switch (kind) {
    case PositionKind::kTransformer:
      return "in the transformer block's image stream";
    case PositionKind::kContext:
      return "the text context";
    case PositionKind::kResidual:
      return "in the residual block";
  }
  return "";
}

std::string WhyIllegalAdapter(const std::vector<std::string_view>& values) {
  const auto input = ParsePosition(values[0]), output = ParsePosition(values[1]);
  if (!input.has_value() || !output.has_value()) return fmt::format("{} -> {} are no positions", values[0], values[1]);
  return IsLegalPair(*input, *output) ? "" : WhyIllegal(*input, *output);
}

}  // namespace

const LegalityRule* FindLegalityRule(std::string_view kind) {
  static const std::vector<LegalityRule> rules = {
      {.kind = "adapter", .keys = {"method.input", "method.output"}, .noun = "pair", .why_illegal = &WhyIllegalAdapter},
  };
  for (const LegalityRule& rule : rules) {
    if (rule.kind == kind) return &rule;
  }
  return nullptr;
}

std::string WhyIllegal(Position input, Position output) {
  std::vector<std::string_view> legal;
  for (const PositionPairId& pair : LegalPairs()) {
    if (pair.input == input) legal.push_back(PositionName(pair.output));
  }
  const std::string why =
      KindOf(input) != KindOf(output)
          ? fmt::format("{} is {} and {} is {}", PositionName(input), PositionKindText(KindOf(input)),
                        PositionName(output), PositionKindText(KindOf(output)))
          : fmt::format("{} comes before {} on the data path", PositionName(output), PositionName(input));
  return fmt::format("the pair {} -> {} is not legal: {}; legal outputs of {} are {}", PositionName(input),
                     PositionName(output), why, PositionName(input), fmt::join(legal, ", "));
}

}  // namespace loupe::settings
