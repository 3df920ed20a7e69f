#include "worker/score/picture_scores.h"

#include <vector>

#include "analysis/metrics/cosine_similarity.h"
#include "analysis/metrics/frechet_distance.h"
#include "analysis/metrics/kernel_distance.h"
#include "analysis/metrics/precision_recall.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::worker {
namespace {

using analysis::FeatureMatrix;

constexpr int64_t kNeighbours = 3;

// Whether both sets have the rows that these scores need; if not, says so under the scores' names.
bool HaveRows(const FeatureMatrix& generated, const FeatureMatrix& reference, const char* of, int64_t least,
              const std::vector<std::string>& names, PictureScores& scores) {
  if (generated.rows >= least && reference.rows >= least) return true;
  for (const std::string& name : names) {
    scores.missing[name] =
        fmt::format("{} needs {} pictures of either kind, but there are {} generated and {} of the {}.", name, least,
                    generated.rows, reference.rows, of);
  }
  return false;
}

// `prefix`: "clip_" or "dino_".
absl::Status AddSimilarities(const std::string& prefix, const FeatureMatrix& generated, const FeatureMatrix& subject,
                             const FeatureMatrix& own_pictures, PictureScores& scores) {
  LOUPE_ASSIGN_OR_RETURN(scores.values[prefix + "i"], own_pictures.rows > 0
                                                          ? analysis::MeanMatchedCosine(generated, own_pictures)
                                                          : analysis::MeanPairwiseCosine(generated, subject));
  LOUPE_ASSIGN_OR_RETURN(scores.values[prefix + "nearest"], analysis::MeanNearestCosine(generated, subject));
  LOUPE_ASSIGN_OR_RETURN(const double within, analysis::MeanCosineWithin(generated));
  scores.values[prefix + "diversity"] = 1 - within;
  return absl::OkStatus();
}

// `prefix`: "clip_", or nothing for Inception's, whose names are the published ones; `suffix`: "_class" against the
// class.
absl::Status AddDistances(const std::string& prefix, const FeatureMatrix& generated, const FeatureMatrix& reference,
                          const std::string& suffix, PictureScores& scores) {
  const char* of = suffix.empty() ? "training set" : "class";
  if (!HaveRows(generated, reference, of, 2, {prefix + "fid" + suffix, prefix + "kid" + suffix}, scores))
    return absl::OkStatus();
  LOUPE_ASSIGN_OR_RETURN(const auto frechet, analysis::ComputeFrechetDistance(generated, reference));
  LOUPE_ASSIGN_OR_RETURN(const auto kernel, analysis::ComputeKernelDistance(generated, reference));
  const std::string fid = prefix + "fid" + suffix, kid = prefix + "kid" + suffix;
  scores.values[fid] = frechet.value;
  if (frechet.few_samples) scores.warnings[fid] = frechet.warning;
  scores.values[kid] = kernel.mean;
  scores.values[kid + "_sd"] = kernel.sd;
  return absl::OkStatus();
}

absl::Status AddPrecisionRecall(const std::string& prefix, const FeatureMatrix& generated,
                                const FeatureMatrix& reference, PictureScores& scores) {
  if (!HaveRows(generated, reference, "training set", kNeighbours + 1, {prefix + "precision", prefix + "recall"},
                scores)) {
    return absl::OkStatus();
  }
  LOUPE_ASSIGN_OR_RETURN(const auto both, analysis::ComputePrecisionRecall(generated, reference, kNeighbours));
  scores.values[prefix + "precision"] = both.precision;
  scores.values[prefix + "recall"] = both.recall;
  return absl::OkStatus();
}

absl::Status AddPriorPreservation(const std::string& prefix, const FeatureMatrix& of_class_prompt,
                                  const FeatureMatrix& subject, std::map<std::string, double>& scores) {
  LOUPE_ASSIGN_OR_RETURN(scores[prefix + "pres"], analysis::MeanPairwiseCosine(of_class_prompt, subject));
  LOUPE_ASSIGN_OR_RETURN(const double within, analysis::MeanCosineWithin(of_class_prompt));
  scores[prefix + "div"] = 1 - within;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PictureScores> ScorePictures(const PictureFeatures& generated, const ScoreReferences& references) {
  PictureScores scores;
  const PictureFeatures &subject = references.subject, &own = references.own_pictures;
  LOUPE_RETURN_IF_ERROR(AddSimilarities("clip_", generated.clip, subject.clip, own.clip, scores));
  LOUPE_ASSIGN_OR_RETURN(scores.values["clip_t"], references.texts.rows > 1
                                                      ? analysis::MeanMatchedCosine(generated.clip, references.texts)
                                                      : analysis::MeanPairwiseCosine(generated.clip, references.texts));
  LOUPE_RETURN_IF_ERROR(AddDistances("clip_", generated.clip, subject.clip, "", scores));
  LOUPE_RETURN_IF_ERROR(AddPrecisionRecall("clip_", generated.clip, subject.clip, scores));
  if (references.class_set.rows > 0) {
    LOUPE_RETURN_IF_ERROR(AddDistances("clip_", generated.clip, references.class_set, "_class", scores));
  }
  if (generated.dino.rows > 0) {
    LOUPE_RETURN_IF_ERROR(AddSimilarities("dino_", generated.dino, subject.dino, own.dino, scores));
  }
  if (generated.inception.rows > 0) {
    LOUPE_RETURN_IF_ERROR(AddDistances("", generated.inception, subject.inception, "", scores));
    LOUPE_RETURN_IF_ERROR(AddPrecisionRecall("", generated.inception, subject.inception, scores));
  }
  return scores;
}

absl::StatusOr<std::map<std::string, double>> ScorePriorPreservation(const PictureFeatures& of_class_prompt,
                                                                     const ScoreReferences& references) {
  std::map<std::string, double> scores;
  LOUPE_RETURN_IF_ERROR(AddPriorPreservation("clip_", of_class_prompt.clip, references.subject.clip, scores));
  if (of_class_prompt.dino.rows > 0) {
    LOUPE_RETURN_IF_ERROR(AddPriorPreservation("dino_", of_class_prompt.dino, references.subject.dino, scores));
  }
  return scores;
}

}  // namespace loupe::worker
