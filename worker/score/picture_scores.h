// The scores of a set of generated pictures, from embeddings alone (so that they can be recomputed from stored ones).
#pragma once

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "analysis/metrics/feature_matrix.h"

namespace loupe::worker::score {

// Pictures as the scoring networks see them, one row each.
struct PictureFeatures {
  analysis::metrics::FeatureMatrix clip;
  // By the network's name, those that the settings name: "dino" (the class token), "effnet", "inception" (pool3).
  std::map<std::string, analysis::metrics::FeatureMatrix> others;
};

struct ScoreReferences {
  PictureFeatures subject;                     // the training pictures
  analysis::metrics::FeatureMatrix class_set;  // DreamBooth: CLIP embeddings of the class pictures; may have no rows
  // Text embeddings: one row for all generated pictures, or one for each (then cosines are of matching rows).
  analysis::metrics::FeatureMatrix texts;
  // The training picture that belongs to each generated one (same caption); no rows: compare with all of `subject`.
  PictureFeatures own_pictures;
};

struct PictureScores {
  std::map<std::string, double> values;
  // By the score's name: a whole sentence on how to read it ("FID from 16 generated and 9 reference pictures …").
  std::map<std::string, std::string> warnings;
  // Scores that the networks would give but that so few pictures cannot: name -> a whole sentence that says what there
  // is.
  std::map<std::string, std::string> missing;
};

// Of CLIP's image features:
//   clip_i    DreamBooth: mean cosine over all pairs generated × subject, the paper's "CLIP similarity" (arXiv
//   2303.18181
//             §4). Fine-tuning: mean cosine of each generated picture and the training picture of its caption
//   clip_t    mean cosine of generated pictures and text. DreamBooth: the class prompt (the prompt without its rare
//   token,
//             which no CLIP was trained on); fine-tuning: each picture's caption
//   clip_nearest     mean cosine to the nearest training picture: near 1 when pictures are copied
//   clip_diversity   1 − mean cosine among the generated pictures
//   clip_fid, clip_kid, clip_kid_sd                    Fréchet and kernel distance of generated and training pictures,
//   two of each clip_fid_class, clip_kid_class, clip_kid_class_sd  the same against the class pictures, where there are
//   any clip_cmmd    the maximum mean discrepancy of generated and training pictures
//   clip_precision, clip_recall      k-nearest-neighbour precision and recall, k = 3, where both sets have four
//   rows
// With a ViT's features: dino_i, dino_nearest and dino_diversity, as those of CLIP, and dino_fd, their Fréchet
// distance; with an EfficientNet's effnet_i, effnet_nearest, effnet_diversity and effnet_fd. With Inception's features:
// fid, kid, kid_sd, precision and recall, as commonly published.
//
// A kid_sd is over the kernel distance's random subsets. A Fréchet distance from no more pictures than dimensions comes
// with a warning. What too few pictures cannot give is left out and listed as missing: names depend on the counts
// alone. INVALID_ARGUMENT when an embedding is not finite or has no direction, or a set that is compared has no row.
absl::StatusOr<PictureScores> ScorePictures(const PictureFeatures& generated, const ScoreReferences& references);

// Whether ScorePictures looks at `own_pictures` with this one of the `others`.
bool ComparesMatched(const std::string& network);

// What became of the class, from pictures of the class prompt (arXiv 2208.12242 §4.4):
//   clip_pres, dino_pres   mean cosine over all pairs of them × subject: rises when the subject takes the class over
//   clip_div, dino_div     1 − mean cosine among them: falls when they all become alike
// Errors as above.
absl::StatusOr<std::map<std::string, double>> ScorePriorPreservation(const PictureFeatures& of_class_prompt,
                                                                     const ScoreReferences& references);

}  // namespace loupe::worker::score
