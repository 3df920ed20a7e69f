// The scores of a set of generated pictures, from embeddings alone (so that they can be recomputed from stored ones).
#pragma once

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "analysis/metrics/feature_matrix.h"

namespace loupe::worker {

struct ScoreReferences {
  analysis::FeatureMatrix subject;     // embeddings of the subject's (training) pictures
  analysis::FeatureMatrix class_set;   // of the class pictures; may have no rows
  analysis::FeatureMatrix class_text;  // one row: the class prompt's text embedding
};

// All of CLIP's image features:
//   clip_i    mean cosine over all pairs generated × subject: the paper's "CLIP similarity" (arXiv 2303.18181 §4)
//   clip_t    mean cosine of generated pictures and the class prompt (the prompt without its rare token, which no CLIP
//             was trained on)
//   clip_fid, clip_kid               Fréchet and kernel distance of generated and subject pictures
//   clip_fid_class, clip_kid_class   the same against the class pictures, where there are at least two
//   clip_nearest   mean cosine to the nearest subject picture: near 1 when pictures are copied
//   clip_diversity   1 − mean cosine among the generated pictures
// INVALID_ARGUMENT when an embedding is not finite or a set has fewer than two rows.
absl::StatusOr<std::map<std::string, double>> ScorePictures(const analysis::FeatureMatrix& generated,
                                                            const ScoreReferences& references);

}  // namespace loupe::worker
