#include "worker/pretrain/sheet.h"

#include <cstring>

#include "worker/io/image.h"

namespace loupe::worker::pretrain {

absl::Status WriteSheet(const std::string& path, const torch::Tensor& pictures, int64_t columns) {
  const int64_t n = pictures.size(0), h = pictures.size(2), w = pictures.size(3);
  const int64_t rows = (n + columns - 1) / columns;
  auto grid = torch::ones({rows * columns, 3, h, w});
  grid.slice(0, 0, n).copy_(pictures.detach().clamp(0, 1).cpu());
  const auto bytes =
      (grid * 255).round().view({rows, columns, 3, h, w}).permute({0, 3, 1, 4, 2}).to(torch::kUInt8).contiguous();
  io::Image image{.width = static_cast<int>(columns * w), .height = static_cast<int>(rows * h), .rgb = {}};
  image.rgb.resize(static_cast<size_t>(bytes.numel()));
  std::memcpy(image.rgb.data(), bytes.const_data_ptr(), image.rgb.size());
  return io::WritePng(path, image);
}

}  // namespace loupe::worker::pretrain
