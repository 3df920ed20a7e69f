// What training reads: one batch of latents, captions and weights per step. Tasks implement it (worker/tasks).
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace loupe::worker::train {

using TensorMap = std::map<std::string, torch::Tensor>;

struct Batch {
  torch::Tensor latents;  // latents_scaled, [B, C, h, w]
  torch::Tensor context;  // a Condition of B rows, encoded by the untouched conditioner
  torch::Tensor weights;  // [B]: loss = Σ_i weights_i · (squared error of row i, averaged over its numbers)
  // The captions that `context` was encoded from, one per row: for methods that train the conditioner.
  std::vector<std::string> prompts;
  // What it was made of: two batches that say the same, and something, hold the same numbers. It spares the look at
  // them, for which one would wait for the device.
  std::string origin;
};

// One trial's. Not thread-safe. Two with the same data and seeds give the same batches; B does not change.
class BatchSource {
 public:
  virtual ~BatchSource() = default;
  virtual int64_t batch_size() const = 0;
  // On the base's device.
  virtual Batch Next() = 0;
  // Random states and positions, so that a resumed run sees the batches that would have come.
  virtual TensorMap Save() const = 0;
  // Throws c10::Error when an array is missing.
  virtual void Restore(const TensorMap& state) = 0;
};

// The entry, or c10::Error naming it.
const torch::Tensor& TakeState(const TensorMap& state, const std::string& name);
// The entry copied into `into`; c10::Error also when its shape is another.
void CopyInto(torch::Tensor into, const TensorMap& state, const std::string& name);

}  // namespace loupe::worker::train
