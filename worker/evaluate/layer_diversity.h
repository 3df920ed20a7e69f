// How different pictures are to the layers of a network, without weights that were learned.
//
//   d(a, b) = mean over layers l of (1/P_l) Σ_p |u_lp(a) − u_lp(b)|²,
// u_lp the features of layer l at position p over their length. This is the form of LPIPS (Zhang et al. 2018, arXiv
// 1801.03924, equation 1) with w_l = 1 and the mean in place of the sum over layers. It is not LPIPS: no weights were
// fitted to people's judgements, and the network is the scorer, no VGG. 0 for pictures alike, 2 where features are at
// right angles everywhere; comparable within one network alone.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

namespace loupe::worker::evaluate {

// The mean of d over all pairs of different pictures. Pictures come in parts; none is kept: a pair's sum is
//   Σ_{i≠j} |u_i − u_j|² = 2·(n Σ_i |u_i|² − |Σ_i u_i|²).
// Not thread-safe.
class LayerDiversity {
 public:
  // One tensor per layer, each [n, positions, channels], of the same n pictures; the same shapes but for n each time.
  void Add(const std::vector<torch::Tensor>& layers);

  int64_t pictures() const { return pictures_; }
  // Two pictures at least.
  double Value() const;

 private:
  int64_t pictures_ = 0;
  std::vector<torch::Tensor> sums_;  // per layer Σ u, [positions, channels], float64
  std::vector<double> squares_;      // per layer Σ |u|²
};

}  // namespace loupe::worker::evaluate
