// The adapter's function at one block, for a run of slots: s·A(x) with A a bottleneck of width r (arXiv 2303.18181
// §3.1).
//
//   on tokens [K·B, T, d]:        A(x) = act(x W_down + b_down) W_up + b_up
//   on pictures [K·B, C, H, W]:   A(x) = Conv3×3_up(act(Conv3×3_down(silu(GroupNorm(x)))))
//
// Every parameter has a leading dimension of K slots: the token form is one batched product, the picture form one
// grouped convolution.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "worker/methods/dropout.h"
#include "worker/nn/pack_slot.h"

namespace loupe::worker::methods {

enum class Activation { kRelu, kSigmoid, kSilu, kIdentity, kGelu };

// Throws c10::Error for a name that is none of "relu", "sigmoid", "silu", "identity": those that method.activation has.
Activation ParseActivation(const std::string& name);

struct BottleneckOptions {
  int64_t in = 0;
  int64_t out = 0;
  int64_t width = 0;
  Activation activation = Activation::kRelu;
  int64_t norm_groups = 32;  // of the picture form
  // Per slot; their count is K.
  std::vector<double> scales;
  torch::Device device = torch::kCPU;
};

// Of a token bottleneck's hidden values, after the activation, in training passes.
struct HiddenDropout {
  double share = 0;
  size_t place = 0;             // within the method
  nn::SlotRange slots;          // of the pack
  std::vector<uint64_t> seeds;  // per slot of them
  std::shared_ptr<const PassState> pass;
};

// What both layers of a bottleneck start from.
enum class BottleneckInit {
  kTorch,     // torch.nn's default, U(±1/√fan_in), for both layers, as in the code of arXiv 2303.18181: the adapter
              // changes the network's output from the start
  kZeroUp,    // the same, but the second layer is 0, so that training starts from the unchanged base
  kLora,      // the first weight as above and all else 0 (AdaptFormer, arXiv 2205.13535)
  kNearZero,  // weights from N(0, 0.01²) cut off at two standard deviations, biases 0 (Houlsby et al., arXiv 1902.00751
              // §3.6)
};

// A slot's own stream of initial values.
struct SlotInit {
  at::Generator generator;  // on the CPU
  BottleneckInit init = BottleneckInit::kTorch;
};

// Immutable but for its parameters' values; forward is thread-safe.
class Bottleneck {
 public:
  struct Parameter {
    std::string name;     // "down.weight"
    torch::Tensor value;  // [K, …]
    // How a slot's value lies in a file: as it is, or with its two dimensions exchanged (torch.nn.Linear's [out, in]).
    bool transposed_in_file = false;
  };
  virtual ~Bottleneck() = default;

  // x: K·B rows, trial-major, K as constructed. Returns s_k·A_k(x) with `out` channels.
  virtual torch::Tensor operator()(const torch::Tensor& x) const = 0;

  const std::vector<Parameter>& parameters() const { return parameters_; }

 protected:
  std::vector<Parameter> parameters_;
};

// Draws from each slot's generator in the order weight, bias of the first layer, then of the second, so that a slot's
// values are those of torch.nn modules made in that order under torch.manual_seed(seed). What is 0 is drawn too.
std::unique_ptr<Bottleneck> MakeTokenBottleneck(const BottleneckOptions& options, std::vector<SlotInit>& slots,
                                                HiddenDropout dropout = {});
std::unique_ptr<Bottleneck> MakePictureBottleneck(const BottleneckOptions& options, std::vector<SlotInit>& slots);

}  // namespace loupe::worker::methods
