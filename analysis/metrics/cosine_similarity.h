// Similarities of embeddings by the cosine of their angle, in double precision whatever the input.
//
// With unit rows u_i = x_i/|x_i| and v_j = y_j/|y_j|, means over pairs are inner products of mean unit vectors, so all
// of these but the nearest-neighbour one cost O((n + m)·d). A row of zeros has no direction: InvalidArgument names it.
#pragma once

#include "absl/status/statusor.h"
#include "analysis/metrics/feature_matrix.h"

namespace loupe::analysis::metrics {

// (1/nm) Σ_i Σ_j u_i·v_j: CLIP-I of DreamBooth (arXiv 2208.12242 §4) and the "CLIP similarity" of arXiv 2303.18181 when
// both are image embeddings; CLIP-T when `reference` is one text embedding. In [−1, 1].
absl::StatusOr<double> MeanPairwiseCosine(const FeatureMatrix& generated, const FeatureMatrix& reference);

// (1/n) Σ_i u_i·v_i: CLIP-T when each picture has its own caption. InvalidArgument if the row counts differ.
absl::StatusOr<double> MeanMatchedCosine(const FeatureMatrix& generated, const FeatureMatrix& reference);

// Mean over the n(n−1) ordered pairs of different rows; 1 minus it is a diversity. Needs two rows.
absl::StatusOr<double> MeanCosineWithin(const FeatureMatrix& features);

// (1/n) Σ_i max_j u_i·v_j: near 1 when each generated picture copies some training picture.
absl::StatusOr<double> MeanNearestCosine(const FeatureMatrix& generated, const FeatureMatrix& reference);

}  // namespace loupe::analysis::metrics
