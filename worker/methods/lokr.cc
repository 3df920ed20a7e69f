// LoKr (LyCORIS, Yeh et al. 2023, arXiv 2309.14859): the change of a layer's weight is a Kronecker product
//
//   Δ = W1 ⊗ W2        W1: [out₁, in₁],  W2: [out₂, in₂] or [out₂, in₂, k, k],  out = out₁·out₂, in = in₁·in₂
//
// with out₁ and in₁ the largest divisors that are at most method.factor and at most the root (one that divides is taken
// as it is, and the smaller of it and its quotient is the first). W2 is a product W2a W2b of rank r where r is less
// than half of its larger side; else it is whole, and then the change has no scale. Names, sizes and initial values are
// LyCORIS's: W1 and W2a uniform, W2b, or W2 where it is whole, 0.
#include <algorithm>

#include "worker/methods/weight_change.h"

namespace loupe::worker::methods {
namespace {

struct TwoFactors {
  int64_t first, second;
};

TwoFactors Factorised(int64_t size, int64_t factor) {
  if (factor > 0 && size % factor == 0) return {std::min(factor, size / factor), std::max(factor, size / factor)};
  const int64_t most = factor > 0 ? factor : size;
  int64_t best = 1;
  for (int64_t divisor = 1; divisor * divisor <= size && divisor <= most; ++divisor) {
    if (size % divisor == 0) best = divisor;
  }
  return {best, size / best};
}

std::vector<ChangeArray> LoKrArrays(const settings::Settings& settings, const std::vector<int64_t>& weight) {
  const int64_t rank = settings.Integer("method.rank");
  const int64_t factor = settings.Has("method.factor") ? settings.Integer("method.factor") : -1;
  const TwoFactors out = Factorised(weight[0], factor), in = Factorised(weight[1], factor);
  std::vector<ChangeArray> arrays = {{"lokr_w1", {out.first, in.first}, StartingValues::kUniform}};
  if (2 * rank < std::max(out.second, in.second)) {
    const int64_t taps = weight.size() == 4 ? weight[2] * weight[3] : 1;
    arrays.push_back({"lokr_w2_a", {out.second, rank}, StartingValues::kUniform});
    arrays.push_back({"lokr_w2_b", {rank, in.second * taps}, StartingValues::kZero});
  } else {
    std::vector<int64_t> whole = {out.second, in.second};
    whole.insert(whole.end(), weight.begin() + 2, weight.end());
    arrays.push_back({"lokr_w2", std::move(whole), StartingValues::kZero});
  }
  return arrays;
}

// Row (i, k), column (j, l, taps) of W1 ⊗ W2, the taps of a convolution belonging to W2's columns.
torch::Tensor LoKrDelta(const std::vector<torch::Tensor>& values) {
  const torch::Tensor& w1 = values[0];
  const torch::Tensor w2 = values.size() == 3 ? values[1].mm(values[2]) : values[1].flatten(1);
  return (w1.unsqueeze(1).unsqueeze(3) * w2.unsqueeze(0).unsqueeze(2)).reshape({w1.size(0) * w2.size(0), -1});
}

}  // namespace

const WeightChange kLoKrChange{LoKrArrays, LoKrDelta, [](size_t arrays) { return arrays == 3; }};

// Reads method.{rank, alpha, factor, targets, text_encoder}.
std::unique_ptr<Method> MakeLoKr(const nn::TuningSites& sites, const std::vector<SlotOptions>& slots,
                                 const nn::SlotRange& range, torch::Device device) {
  return std::make_unique<WeightChangeMethod>(kLoKrChange, sites, slots, range, device);
}

}  // namespace loupe::worker::methods
