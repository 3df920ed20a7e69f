// How much arithmetic one forward pass of a denoiser is, by counting: plain numbers of a base's config.json, without
// weights and without LibTorch. What a plan estimates its costs by, and what docs/bases.md compares backbones by.
//
// A multiply-add counts as one here (the "flops" of papers on these networks) and as two floating-point operations in
// TotalFlops. Counted is what grows with the number of latents: products, convolutions, attention, transforms; not
// norms, activations, sums. For one latent; "condition" is what is computed once per latent whatever its size.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace loupe {

struct LayerWork {
  std::string_view kind;  // "dense", "attention", "state space", "convolution", "condition", "ends"
  double multiply_adds = 0;
  double weights = 0;  // numbers that the network has for it: of matrices and filters, not of biases and norms
};
using NetworkWork = std::vector<LayerWork>;

double TotalMultiplyAdds(const NetworkWork& work);
double TotalWeights(const NetworkWork& work);
inline double TotalFlops(const NetworkWork& work) { return 2 * TotalMultiplyAdds(work); }

// One resolution of a UNet2DConditionModel, from the outside in.
struct UNetLevelShape {
  double width = 0;
  int64_t resnets = 0;
  int64_t transformer_layers = 1;
  bool down_attention = false;
  bool up_attention = false;
};
struct UNetShape {
  double in_channels = 4, out_channels = 4;
  double side = 64;  // of the latents
  double context_width = 768, context_tokens = 77;
  double added_width = 0;  // what it is told besides the time, of Stable Diffusion XL
  std::vector<UNetLevelShape> levels;
};
NetworkWork UNetWork(const UNetShape& shape);

struct DiTShape {
  double in_channels = 4, out_channels = 8;
  double side = 32;
  double patch = 2, width = 1152, layers = 28, classes = 1000;
};
// Per block on T = (side/patch)² tokens: 12 T D² dense, 2 T² D attention, 6 D² for the modulation.
NetworkWork DiTWork(const DiTShape& shape);

struct DiffuSSMShape {
  double in_channels = 4, out_channels = 8;
  double side = 32;
  double hourglass = 2, width = 1152, layers = 29, states = 64, classes = 1000;
  bool gated = true;
};
// Per block on L = side² places, J = L/M: 13 J D² + L D² dense (arXiv 2311.18257 §4.3), and the transforms of two
// directions: for each channel one of 2L real numbers there and two back, 2.5 n log₂ n operations each (half a complex
// transform's 5 n log₂ n), which is 7.5 L log₂(2L) multiply-adds a channel. The kernels, once per forward whatever the
// number of latents, are left out.
NetworkWork DiffuSSMWork(const DiffuSSMShape& shape);

}  // namespace loupe
