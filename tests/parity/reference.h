// Where make_reference.py wrote, and how close a tensor is to what it wrote.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <map>
#include <string>

#include "fmt/format.h"
#include "gtest/gtest.h"
#include "worker/io/safetensors.h"
#include "worker/models/weights.h"

namespace loupe::worker {

// ctest sets it and runs make_reference.py first.
inline std::string ReferenceFolder() {
  const char* folder = std::getenv("LOUPE_PARITY_DIR");
  return folder == nullptr ? "" : folder;
}

inline std::map<std::string, torch::Tensor> ReadReference(const std::string& name) {
  const auto file = io::SafetensorsFile::Open(ReferenceFolder() + "/" + name);
  TORCH_CHECK(file.ok(), file.status().ToString(), " (is LOUPE_PARITY_DIR set to what make_reference.py wrote?)");
  std::map<std::string, torch::Tensor> tensors;
  for (const auto& [key, array] : file->arrays()) tensors[key] = models::ToTensor(array);
  return tensors;
}

// The stand-in for a network that samplers.py and schedules.py walk with.
inline torch::Tensor StandIn(const torch::Tensor& latents, int64_t timestep) {
  return torch::tanh(0.9 * latents + 0.001 * static_cast<double>(timestep)) - 0.3 * latents;
}

// The greatest difference must be at most `tolerance` times the greatest expected value (or `least_scale`, if that is
// more): float32 sums of different order differ by some multiples of 2^-24 of the largest terms, not of each result.
inline ::testing::AssertionResult Close(const torch::Tensor& found, const torch::Tensor& expected, double tolerance,
                                        double least_scale = 0) {
  if (found.sizes() != expected.sizes()) {
    std::ostringstream text;
    text << "shape " << found.sizes() << ", expected " << expected.sizes();
    return ::testing::AssertionFailure() << text.str();
  }
  const auto a = found.detach().to(torch::kFloat64), b = expected.to(torch::kFloat64);
  const double difference = (a - b).abs().max().item<double>(),
               scale = std::max(b.abs().max().item<double>(), least_scale);
  const auto text = fmt::format("greatest difference {:.3g} of greatest value {:.3g}: {:.3g} relative, allowed {:.3g}",
                                difference, scale, difference / scale, tolerance);
  if (std::getenv("LOUPE_PARITY_VERBOSE") != nullptr) fmt::print("  {}\n", text);
  // Written so that a NaN fails.
  if (!(difference <= tolerance * scale)) return ::testing::AssertionFailure() << text;
  return ::testing::AssertionSuccess();
}

}  // namespace loupe::worker
