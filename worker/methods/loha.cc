// LoHa (LyCORIS, Yeh et al. 2023, arXiv 2309.14859; FedPara, arXiv 2108.06098): the change of a layer's weight is the
// elementwise product of two of rank r, so that its rank may be r²:
//
//   Δ = (W1a W1b) ⊙ (W2a W2b)        W1a, W2a: [out, r],  W1b, W2b: [r, in] or, for convolutions, [r, in·k·k]
//
// Names and initial values are LyCORIS's: W1a from N(0, 0.1²), W1b and W2b from N(0, 1), W2a 0.
#include "worker/methods/weight_change.h"

namespace loupe::worker::methods {
namespace {

std::vector<ChangeArray> LoHaArrays(const settings::Settings& settings, const std::vector<int64_t>& weight) {
  const int64_t rank = settings.Integer("method.rank"), out = weight.front();
  int64_t inputs = 1;
  for (size_t i = 1; i < weight.size(); ++i) inputs *= weight[i];
  return {{"hada_w1_a", {out, rank}, StartingValues::kSmallNormal},
          {"hada_w1_b", {rank, inputs}, StartingValues::kNormal},
          {"hada_w2_a", {out, rank}, StartingValues::kZero},
          {"hada_w2_b", {rank, inputs}, StartingValues::kNormal}};
}

torch::Tensor LoHaDelta(const std::vector<torch::Tensor>& values) {
  return values[0].mm(values[1]) * values[2].mm(values[3]);
}

}  // namespace

const WeightChange kLoHaChange{LoHaArrays, LoHaDelta, [](size_t /*arrays*/) { return true; }};

// Reads method.{rank, alpha, targets, text_encoder}.
std::unique_ptr<Method> MakeLoHa(const nn::TuningSites& sites, const std::vector<SlotOptions>& slots,
                                 const nn::SlotRange& range, torch::Device device) {
  return std::make_unique<WeightChangeMethod>(kLoHaChange, sites, slots, range, device);
}

}  // namespace loupe::worker::methods
