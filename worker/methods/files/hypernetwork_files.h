// A hypernetwork in AUTOMATIC1111's form: for each context width two small networks, which change what to_k and to_v of
// every attention over a context of that width read:
//
//   x' = x + f(x),   f = Linear, function, LayerNorm, Dropout, Linear, …
//
// Its .pt file is a dictionary: a whole number (the width) to the state dictionaries of the two networks, whose arrays
// are called by their place in f ("linear.0.weight"; functions and dropout take places too), and texts to settings:
// layer_structure, activation_func, is_layer_norm, activate_output, use_dropout, last_layer_dropout,
// dropout_structure, weight_initialization, step, name, sd_checkpoint, sd_checkpoint_name.
#pragma once

#include <torch/types.h>

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace loupe::worker::methods::files {

struct HypernetworkShape {
  // Widths of the layers' ends as multiples of the context's: begins and ends with 1.
  std::vector<double> structure = {1, 2, 1};
  std::string activation = "linear";  // as they call it; see kHyperActivations
  bool activate_output = false;
  bool layer_norm = false;
  // After the layer that ends at structure[i]; 0: none. As long as structure.
  std::vector<double> dropout = {0, 0, 0};

  bool operator==(const HypernetworkShape&) const = default;
};

// One part of f, in order.
struct HypernetworkLayer {
  enum class Kind { kLinear, kActivation, kNorm, kDropout };
  Kind kind = Kind::kLinear;
  int64_t index = 0;  // its place: the number in its arrays' names
  int64_t in = 0, out = 0;
  double dropout = 0;
};

// Which widths the layers have for a context of `width`. Precondition: the shape is sound.
std::vector<HypernetworkLayer> LayersOf(const HypernetworkShape& shape, int64_t width);

// Why a shape means nothing; empty when it is sound.
std::string WhyUnsound(const HypernetworkShape& shape);

// "1, 2, 1"; INVALID_ARGUMENT with a sentence.
absl::StatusOr<std::vector<double>> ParseStructure(const std::string& text);

// Names that both their files and our settings have. Empty tensor function for none.
bool IsHyperActivation(const std::string& name);
torch::Tensor HyperActivation(const std::string& name, const torch::Tensor& x);

struct HypernetworkFile {
  HypernetworkShape shape;
  // Width -> of to_k's and of to_v's network: "linear.0.weight" -> value, float32.
  std::map<int64_t, std::array<std::map<std::string, torch::Tensor>, 2>> widths;
  std::string weight_init = "Normal";
  std::string name;
  int64_t step = 0;
  std::string checkpoint;  // the base's name, where it is said
};

// The arrays of an adapter file: "hypernetwork.{width}.to_k.linear.0.weight".
std::map<std::string, torch::Tensor> HypernetworkArrays(const HypernetworkFile& file);
// Throws c10::Error naming an array that is none of those.
HypernetworkFile HypernetworkFileOf(const std::map<std::string, torch::Tensor>& arrays, const HypernetworkShape& shape);

// NOT_FOUND and the like from the file; INVALID_ARGUMENT, with the path and a sentence, when it is no hypernetwork, its
// arrays do not fit its structure, or a value is not finite.
absl::StatusOr<HypernetworkFile> ReadHypernetwork(const std::string& path);

// Errors as WriteFileAtomically.
absl::Status WriteHypernetwork(const std::string& path, const HypernetworkFile& file);

}  // namespace loupe::worker::methods::files
