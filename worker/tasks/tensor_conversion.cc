#include "worker/tasks/tensor_conversion.h"

#include <algorithm>

#include "worker/base/base_model.h"

namespace loupe::worker::tasks {

analysis::metrics::FeatureMatrix FeaturesFromTensor(const torch::Tensor& embeddings) {
  const torch::Tensor rows = embeddings.to(torch::kCPU, torch::kFloat32).contiguous();
  const float* first = rows.const_data_ptr<float>();
  return {rows.size(0), rows.size(1), std::vector<float>(first, first + rows.numel())};
}

torch::Tensor TensorFromFeatures(const analysis::metrics::FeatureMatrix& features) {
  return torch::tensor(features.values).view({features.rows, features.cols});
}

torch::Tensor TensorFromImages(const std::vector<io::Image>& images) {
  std::vector<torch::Tensor> rows;
  for (const io::Image& image : images) {
    rows.push_back(torch::tensor(at::ArrayRef<uint8_t>(image.rgb)).view({image.height, image.width, 3}));
  }
  return torch::stack(rows);
}

std::vector<io::Image> ImagesFromTensor(const torch::Tensor& bytes) {
  TORCH_CHECK(bytes.dim() == 4 && bytes.size(3) == 3 && bytes.dtype() == torch::kUInt8, "expected uint8 [n, H, W, 3]");
  std::vector<io::Image> images;
  for (const torch::Tensor& row : bytes.contiguous().unbind()) {
    const uint8_t* first = row.const_data_ptr<uint8_t>();
    images.push_back({static_cast<int>(row.size(1)), static_cast<int>(row.size(0)),
                      std::vector<uint8_t>(first, first + row.numel())});
  }
  return images;
}

torch::Tensor PicturesFromImages(const std::vector<io::Image>& images) {
  std::vector<torch::Tensor> rows;
  for (const io::Image& image : images) rows.push_back(base::PictureFromImage(image));
  return torch::stack(rows);
}

}  // namespace loupe::worker::tasks
