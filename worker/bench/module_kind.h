// Kinds of module that a step's time is told apart by, and which of a base's layers is of which.
#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "worker/nn/leaf_layers.h"

namespace loupe::worker::bench {

// In the order of a table's rows.
enum class ModuleKind {
  kConvolution,       // filters of more than one place (3×3)
  kPointConvolution,  // 1×1, and the transformers' projections that are one in some files and a linear layer in others
  kAttentionLinear,   // queries, keys, values, output; of cross-attention queries and output
  kAttention,         // softmax(Q Kᵀ) V
  kFeedForward,
  kDense,       // other linear layers on the stream (DiffuSSM's hourglass)
  kEnds,        // patches in and out (DiT, DiffuSSM)
  kStateSpace,  // kernels, transforms, products of spectra
  kCondition,   // time and class: their MLPs, the blocks' projections of them; keys and values of the text
  kEmbedding,   // rows of a table
  kNorm,
  kActivation,
  kElementwise,  // sums, products by element, copies, random numbers, the loss
  kMethod,       // what is trained
  kOptimiser,
  kOther,  // what no operator takes: the program between them
};
inline constexpr int kModuleKinds = static_cast<int>(ModuleKind::kOther) + 1;

// "convolution 3×3".
std::string_view ModuleKindName(ModuleKind kind);

// Of a layer by what it is and by its checkpoint name in its network.
ModuleKind KindOfLayer(const nn::LeafLayer& layer, const std::string& name);
// Of an operator without weights, by its name ("aten::silu"), or of a marked region of the program ("loupe.attention");
// nullopt: of such a name nothing is known.
std::optional<ModuleKind> KindOfOperator(std::string_view name);
std::optional<ModuleKind> KindOfRegion(std::string_view name);

// Whose a tensor is: layers' weights and biases, with their 16-bit copies, by where their numbers lie, so that views of
// them are found too. The tensors must stay where they are.
class WeightKinds {
 public:
  void AddLayersOf(torch::nn::Module& network);
  void Add(const torch::Tensor& weight, ModuleKind kind);
  std::optional<ModuleKind> Find(const torch::Tensor& tensor) const;

 private:
  std::unordered_map<const void*, ModuleKind> kinds_;
};

}  // namespace loupe::worker::bench
