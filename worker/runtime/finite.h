// NaN and infinity, said where they arise: they would end as black pictures and as scores of nothing.
#pragma once

#include <torch/types.h>

#include <cmath>
#include <stdexcept>
#include <string>

namespace loupe::worker::runtime {

// For messages: which sign a NaN has depends on the operators that it went through and says nothing.
inline double WithoutNanSign(double value) { return std::isnan(value) ? std::abs(value) : value; }

// Of weights, latents, pictures or embeddings; what() is a sentence that says whose. Another try would meet it again.
class NotFinite : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// "2 of 64 values are not finite (the first is nan, at [0, 3])"; empty when all are finite. Waits for the device. One
// pass and no memory where all are finite.
std::string DescribeNotFinite(const torch::Tensor& values);

// Throws NotFinite: `what` ("the VAE's decoder of /base"), then DescribeNotFinite.
void CheckFinite(const torch::Tensor& values, const std::string& what);

}  // namespace loupe::worker::runtime
