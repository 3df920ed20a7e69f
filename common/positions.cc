#include "common/positions.h"

#include <algorithm>
#include <array>

namespace loupe {
namespace {

constexpr std::array<std::string_view, 10> kNames = {"SA_in",  "SA_out",  "CA_in",     "CA_c",   "CA_out",
                                                     "FFN_in", "FFN_out", "Trans_out", "Res_in", "Res_out"};

std::vector<Position> PositionsWhere(bool (*keep)(Position)) {
  std::vector<Position> positions;
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (const auto position = static_cast<Position>(i); keep(position)) positions.push_back(position);
  }
  return positions;
}

}  // namespace

std::string_view PositionName(Position position) { return kNames[static_cast<size_t>(position)]; }

std::optional<Position> ParsePosition(std::string_view name) {
  const auto found = std::find(kNames.begin(), kNames.end(), name);
  if (found == kNames.end()) return std::nullopt;
  return static_cast<Position>(found - kNames.begin());
}

PositionKind KindOf(Position position) {
  switch (position) {
    case Position::kCaC:
      return PositionKind::kContext;
    case Position::kResIn:
    case Position::kResOut:
      return PositionKind::kResidual;
    default:
      return PositionKind::kTransformer;
  }
}

bool IsOutput(Position position) {
  return position != Position::kSaOut && position != Position::kCaOut && position != Position::kFfnOut;
}

bool IsLegalPair(Position input, Position output) {
  return IsOutput(output) && KindOf(input) == KindOf(output) && input <= output;
}

const std::vector<Position>& InputPositions() {
  static const std::vector<Position> positions = PositionsWhere([](Position) { return true; });
  return positions;
}

const std::vector<Position>& OutputPositions() {
  static const std::vector<Position> positions = PositionsWhere(&IsOutput);
  return positions;
}

const std::vector<PositionPairId>& LegalPairs() {
  static const std::vector<PositionPairId> pairs = [] {
    std::vector<PositionPairId> legal;
    for (const Position input : InputPositions()) {
      for (const Position output : OutputPositions()) {
        if (IsLegalPair(input, output)) legal.push_back({input, output});
      }
    }
    return legal;
  }();
  return pairs;
}

}  // namespace loupe
