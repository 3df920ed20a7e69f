// Between tensors and the plain types of caches and metrics.
#pragma once

#include <torch/types.h>

#include <string>
#include <vector>

#include "analysis/metrics/feature_matrix.h"
#include "worker/io/image.h"

namespace loupe::worker::tasks {

// embeddings: [n, d], float32.
analysis::metrics::FeatureMatrix FeaturesFromTensor(const torch::Tensor& embeddings);
torch::Tensor TensorFromFeatures(const analysis::metrics::FeatureMatrix& features);

// Images of one size as uint8 [n, H, W, 3], and back.
torch::Tensor TensorFromImages(const std::vector<io::Image>& images);
std::vector<io::Image> ImagesFromTensor(const torch::Tensor& bytes);

// Images of one size as pictures [n, 3, H, W] in [−1, 1], float32.
torch::Tensor PicturesFromImages(const std::vector<io::Image>& images);

}  // namespace loupe::worker::tasks
