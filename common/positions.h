// The positions of an adapter (arXiv 2303.18181 §3, Fig. 2): where it reads, where it writes, and which pairs are
// legal.
//
// Ten inputs: SA_in SA_out CA_in CA_c CA_out FFN_in FFN_out Trans_out Res_in Res_out. Seven outputs: SA_in CA_in CA_c
// FFN_in Trans_out Res_in Res_out; SA_out, CA_out and FFN_out are not outputs of their own, since addition commutes
// (writing to SA_out is writing to CA_in, and so on). Legal: output at or after input along the data path, same kind of
// block, context only to context: exactly 20 pairs.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

namespace loupe {

// In data-path order within each kind of block. Do not renumber: the order is the legality rule.
enum class Position { kSaIn, kSaOut, kCaIn, kCaC, kCaOut, kFfnIn, kFfnOut, kTransOut, kResIn, kResOut };

enum class PositionKind { kTransformer, kContext, kResidual };

struct PositionPairId {
  Position input;
  Position output;
  friend bool operator==(const PositionPairId&, const PositionPairId&) = default;
};

// "CA_out" and so on, as the paper writes them.
std::string_view PositionName(Position position);
// nullopt when `name` is none of the ten.
std::optional<Position> ParsePosition(std::string_view name);

// kContext for CA_c alone: it carries 77 text tokens, not the image stream.
PositionKind KindOf(Position position);

// Whether an adapter may write there at all (seven of the ten).
bool IsOutput(Position position);
bool IsLegalPair(Position input, Position output);

const std::vector<Position>& InputPositions();
const std::vector<Position>& OutputPositions();
// All 20, by input then output, in enum order.
const std::vector<PositionPairId>& LegalPairs();

}  // namespace loupe
