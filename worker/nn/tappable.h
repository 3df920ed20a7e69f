// Blocks that a method can attach to, and how to find them in a network.
#pragma once

#include <torch/nn/module.h>

#include <string>
#include <vector>

#include "worker/nn/taps.h"

namespace loupe::worker::nn {

// Implemented by every module that owns a TapSlot.
class Tappable {
 public:
  virtual ~Tappable() = default;
  // `name` is the caller's: a module does not know its own. The slot pointer is valid while the block lives.
  virtual TappableBlock Describe(std::string name) = 0;
};

// Every tappable block under `network`, in registration order (for a UNet: way down, middle, way up).
std::vector<TappableBlock> TappableBlocksIn(torch::nn::Module& network);

}  // namespace loupe::worker::nn
