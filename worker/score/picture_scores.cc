#include "worker/score/picture_scores.h"

#include "analysis/metrics/cosine_similarity.h"
#include "analysis/metrics/frechet_distance.h"
#include "analysis/metrics/kernel_distance.h"
#include "analysis/metrics/precision_recall.h"
#include "common/status_macros.h"

namespace loupe::worker {
namespace {

constexpr int64_t kNeighbours = 3;

absl::Status AddDistances(const analysis::FeatureMatrix& generated, const analysis::FeatureMatrix& reference,
                          const std::string& suffix, std::map<std::string, double>& scores) {
  LOUPE_ASSIGN_OR_RETURN(const auto frechet, analysis::ComputeFrechetDistance(generated, reference));
  LOUPE_ASSIGN_OR_RETURN(const auto kernel, analysis::ComputeKernelDistance(generated, reference));
  scores["clip_fid" + suffix] = frechet.value;
  scores["clip_kid" + suffix] = kernel.mean;
  return absl::OkStatus();
}

absl::Status AddInceptionScores(const analysis::FeatureMatrix& generated, const analysis::FeatureMatrix& reference,
                                std::map<std::string, double>& scores) {
  LOUPE_ASSIGN_OR_RETURN(const auto frechet, analysis::ComputeFrechetDistance(generated, reference));
  LOUPE_ASSIGN_OR_RETURN(const auto kernel, analysis::ComputeKernelDistance(generated, reference));
  scores["fid"] = frechet.value;
  scores["kid"] = kernel.mean;
  if (generated.rows <= kNeighbours || reference.rows <= kNeighbours) return absl::OkStatus();
  LOUPE_ASSIGN_OR_RETURN(const auto both, analysis::ComputePrecisionRecall(generated, reference, kNeighbours));
  scores["precision"] = both.precision;
  scores["recall"] = both.recall;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::map<std::string, double>> ScorePictures(const analysis::FeatureMatrix& generated,
                                                            const ScoreReferences& references,
                                                            const analysis::FeatureMatrix& inception) {
  std::map<std::string, double> scores;
  LOUPE_ASSIGN_OR_RETURN(scores["clip_i"],
                         references.own_pictures.rows > 0
                             ? analysis::MeanMatchedCosine(generated, references.own_pictures)
                             : analysis::MeanPairwiseCosine(generated, references.subject));
  LOUPE_ASSIGN_OR_RETURN(scores["clip_t"], references.texts.rows > 1
                                               ? analysis::MeanMatchedCosine(generated, references.texts)
                                               : analysis::MeanPairwiseCosine(generated, references.texts));
  LOUPE_ASSIGN_OR_RETURN(scores["clip_nearest"], analysis::MeanNearestCosine(generated, references.subject));
  LOUPE_ASSIGN_OR_RETURN(const double within, analysis::MeanCosineWithin(generated));
  scores["clip_diversity"] = 1 - within;
  LOUPE_RETURN_IF_ERROR(AddDistances(generated, references.subject, "", scores));
  if (inception.rows > 0 && references.inception_subject.rows > 0) {
    LOUPE_RETURN_IF_ERROR(AddInceptionScores(inception, references.inception_subject, scores));
  }
  if (references.class_set.rows >= 2) {
    LOUPE_RETURN_IF_ERROR(AddDistances(generated, references.class_set, "_class", scores));
  }
  if (generated.rows > kNeighbours && references.subject.rows > kNeighbours) {
    LOUPE_ASSIGN_OR_RETURN(const auto both,
                           analysis::ComputePrecisionRecall(generated, references.subject, kNeighbours));
    scores["clip_precision"] = both.precision;
    scores["clip_recall"] = both.recall;
  }
  return scores;
}

}  // namespace loupe::worker
