// Contact sheets: pictures in a grid, to be looked at while training goes on.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace loupe::worker::pretrain {

// pictures: [N, 3, H, W] in [0, 1] (clamped), written row by row, `columns` in a row, white where there is none, as a
// PNG.
absl::Status WriteSheet(const std::string& path, const torch::Tensor& pictures, int64_t columns);

}  // namespace loupe::worker::pretrain
