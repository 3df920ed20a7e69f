// Which device a process computes on.
#pragma once

#include <torch/types.h>

#include <string>

#include "absl/status/statusor.h"

namespace loupe::worker {

// From "auto", "cpu", "cuda" or "cuda:N". INVALID_ARGUMENT for anything else; FAILED_PRECONDITION when there is no such GPU.
absl::StatusOr<torch::Device> ParseDevice(const std::string& name);

// "cpu" or "cuda:0 NVIDIA H200".
std::string DescribeDevice(torch::Device device);

}  // namespace loupe::worker
