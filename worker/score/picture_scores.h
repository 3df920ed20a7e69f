// The scores of a set of generated pictures, from embeddings alone (so that they can be recomputed from stored ones).
#pragma once

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "analysis/metrics/feature_matrix.h"

namespace loupe::worker {

struct ScoreReferences {
  analysis::FeatureMatrix subject;    // embeddings of the training pictures
  analysis::FeatureMatrix class_set;  // DreamBooth: of the class pictures; may have no rows
  // Text embeddings: one row for all generated pictures, or one for each (then cosines are of matching rows).
  analysis::FeatureMatrix texts;
  // The training picture that belongs to each generated one (same caption); no rows: compare with all of `subject`.
  analysis::FeatureMatrix own_pictures;
  // Inception features of the training pictures; no rows without that network.
  analysis::FeatureMatrix inception_subject;
};

// All of CLIP's image features:
//   clip_i    DreamBooth: mean cosine over all pairs generated × subject, the paper's "CLIP similarity" (arXiv 2303.18181
//             §4). Fine-tuning: mean cosine of each generated picture and the training picture of its caption
//   clip_t    mean cosine of generated pictures and text. DreamBooth: the class prompt (the prompt without its rare token,
//             which no CLIP was trained on); fine-tuning: each picture's caption
//   clip_fid, clip_kid               Fréchet and kernel distance of generated and training pictures
//   clip_fid_class, clip_kid_class   the same against the class pictures, where there are at least two
//   clip_precision, clip_recall      k-nearest-neighbour precision and recall, k = 3, where both sets have four rows
//   clip_nearest     mean cosine to the nearest training picture: near 1 when pictures are copied
//   clip_diversity   1 − mean cosine among the generated pictures
// INVALID_ARGUMENT when an embedding is not finite or a set has fewer than two rows.
//
// With Inception features (`inception`: of the generated pictures; may have no rows), of these:
//   fid, kid               Fréchet and kernel distance of generated and training pictures, as commonly published
//   precision, recall      as above
absl::StatusOr<std::map<std::string, double>> ScorePictures(const analysis::FeatureMatrix& generated,
                                                            const ScoreReferences& references,
                                                            const analysis::FeatureMatrix& inception = {});

}  // namespace loupe::worker
