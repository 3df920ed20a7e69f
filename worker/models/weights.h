// Filling a network from a file of weights, by name, with nothing left over on either side.
#pragma once

#include <torch/nn/module.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "worker/io/safetensors.h"
#include "worker/io/weight_files.h"

namespace loupe::worker::models {

// How a model folder is loaded, as its callers choose it.
struct LoadOptions {
  torch::ScalarType dtype = torch::kFloat32;
  torch::Device device = torch::kCPU;
};

struct WeightOptions {
  torch::ScalarType dtype = torch::kFloat32;  // in memory, whatever the file holds
  torch::Device device = torch::kCPU;
  // Convolution weights as [out, k, k, in] in memory. Makes the networks' convolutions 1.2–1.3 times as fast on CPUs,
  // and the transformers' changes between pixels and tokens free.
  bool channels_last = true;
  // The file's names begin with this, the network's do not ("text_model.").
  std::string strip_prefix;
  // Names inside a path of the file and what they are called now: {".query.", ".to_q."}. For checkpoints older than a
  // published renaming.
  std::vector<std::pair<std::string, std::string>> renamed;
  // Endings of names in the file that are no weights (".position_ids").
  std::vector<std::string> passed_over;
  // What the weights must fit, for messages.
  std::string network = "the network of config.json beside it";
};

// Replaces every parameter of `network` by the file's array of the same name, converted, requires_grad off.
// INVALID_ARGUMENT, naming the file and up to three weights, with shapes, if one is missing, has another shape, holds
// no floats or is not the network's; then no parameter has been changed. Also if a value is not finite, in the file or
// in options.dtype; then the network is not to be used.
absl::Status LoadWeights(torch::nn::Module& network, const io::WeightFiles& files, const WeightOptions& options);
// The same from arrays that were made of a file's; `path` is for messages.
absl::Status LoadWeights(torch::nn::Module& network, const std::string& path,
                         const std::map<std::string, io::ArrayView>& arrays, const WeightOptions& options);

// The same from one file, of either kind (WeightFiles::OpenFile).
absl::Status LoadWeightFile(torch::nn::Module& network, const std::string& path, const WeightOptions& options);

// One array as a tensor of its own memory.
torch::Tensor ToTensor(const io::ArrayView& array);

// SHA-256 over names, types, shapes and bytes, in order of the names: what a file keeps of its arrays to tell a flipped
// bit.
std::string DigestOfArrays(const std::map<std::string, io::ArrayView>& arrays);

// Tensors as arrays for WriteSafetensors: `kept` owns what the views show (contiguous, on the CPU).
struct TensorArrays {
  std::vector<torch::Tensor> kept;
  std::map<std::string, io::ArrayView> views;
};
TensorArrays ToArrays(const std::map<std::string, torch::Tensor>& tensors);

}  // namespace loupe::worker::models
