// Embeddings as .npy (numpy's format, version 1.0), so that scores can be recomputed by anybody with numpy.
//
// Written: little-endian float32, C order, shape (rows, cols), header padded to 64 bytes. Read: the same, and also
// float64 (rounded to float32), Fortran order refused, versions 1–3. Each length is checked against the bytes that are
// there.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "analysis/metrics/feature_matrix.h"

namespace loupe::analysis::metrics {

std::string SerializeNpy(const FeatureMatrix& features);

// InvalidArgument with a sentence: not a .npy file, truncated, another dtype or byte order, not one- or
// two-dimensional, a shape that does not fit the number of bytes. A one-dimensional array becomes one row.
absl::StatusOr<FeatureMatrix> ParseNpy(std::string_view bytes);

// The same through a file; errors name `path`.
absl::Status WriteNpyFile(const std::string& path, const FeatureMatrix& features);
absl::StatusOr<FeatureMatrix> ReadNpyFile(const std::string& path);

}  // namespace loupe::analysis::metrics
