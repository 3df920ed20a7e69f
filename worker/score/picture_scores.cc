#include "worker/score/picture_scores.h"

#include <algorithm>
#include <iterator>
#include <vector>

#include "analysis/metrics/cosine_similarity.h"
#include "analysis/metrics/embedding_mmd.h"
#include "analysis/metrics/frechet_distance.h"
#include "analysis/metrics/kernel_distance.h"
#include "analysis/metrics/precision_recall.h"
#include "common/score_table.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::worker::score {
namespace {

using analysis::metrics::FeatureMatrix;

constexpr int64_t kNeighbours = 3;
constexpr char kTrainingSet[] = "training set";

// A row of the table of scores: a name that has none does not compile.
consteval const char* Score(const char* name) {
  const ScoreEntry* entry = FindScore(name);
  if (entry == nullptr || entry->name != name) throw "no such score";
  return name;
}

struct SimilarityScores {
  const char *mean, *nearest, *diversity;
};
constexpr SimilarityScores kClipSimilarity = {Score("clip_i"), Score("clip_nearest"), Score("clip_diversity")};

// The others, by name: what each of them gives.
constexpr char kDino[] = "dino", kInception[] = "inception";
struct SimilarityNetwork {
  const char* name;
  SimilarityScores similarity;
  const char* frechet;
};
constexpr SimilarityNetwork kSimilarityNetworks[] = {
    {kDino, {Score("dino_i"), Score("dino_nearest"), Score("dino_diversity")}, Score("dino_fd")},
    {"effnet", {Score("effnet_i"), Score("effnet_nearest"), Score("effnet_diversity")}, Score("effnet_fd")},
};

struct DistanceScores {
  const char *fid, *kid, *kid_sd;
};
constexpr DistanceScores kClipDistance = {Score("clip_fid"), Score("clip_kid"), Score("clip_kid_sd")};
constexpr DistanceScores kClipClassDistance = {Score("clip_fid_class"), Score("clip_kid_class"),
                                               Score("clip_kid_class_sd")};
constexpr DistanceScores kInceptionDistance = {Score("fid"), Score("kid"), Score("kid_sd")};

struct CoverageScores {
  const char *precision, *recall;
};
constexpr CoverageScores kClipCoverage = {Score("clip_precision"), Score("clip_recall")};
constexpr CoverageScores kInceptionCoverage = {Score("precision"), Score("recall")};

struct PriorScores {
  const char *preservation, *diversity;
};
constexpr PriorScores kClipPrior = {Score("clip_pres"), Score("clip_div")};
constexpr PriorScores kDinoPrior = {Score("dino_pres"), Score("dino_div")};

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

absl::Status AddSimilarities(const SimilarityScores& names, const FeatureMatrix& generated,
                             const FeatureMatrix& subject, const FeatureMatrix& own_pictures, PictureScores& scores) {
  LOUPE_ASSIGN_OR_RETURN(scores.values[names.mean], own_pictures.rows > 0
                                                        ? analysis::metrics::MeanMatchedCosine(generated, own_pictures)
                                                        : analysis::metrics::MeanPairwiseCosine(generated, subject));
  LOUPE_ASSIGN_OR_RETURN(scores.values[names.nearest], analysis::metrics::MeanNearestCosine(generated, subject));
  LOUPE_ASSIGN_OR_RETURN(const double within, analysis::metrics::MeanCosineWithin(generated));
  scores.values[names.diversity] = 1 - within;
  return absl::OkStatus();
}

// `of`: what the reference is, for a sentence.
absl::Status AddFrechet(const char* name, const FeatureMatrix& generated, const FeatureMatrix& reference,
                        const char* of, PictureScores& scores) {
  if (!HaveRows(generated, reference, of, 2, {name}, scores)) return absl::OkStatus();
  LOUPE_ASSIGN_OR_RETURN(const auto frechet, analysis::metrics::ComputeFrechetDistance(generated, reference));
  scores.values[name] = frechet.value;
  if (frechet.few_samples) scores.warnings[name] = frechet.warning;
  return absl::OkStatus();
}

absl::Status AddDistances(const DistanceScores& names, const FeatureMatrix& generated, const FeatureMatrix& reference,
                          const char* of, PictureScores& scores) {
  LOUPE_RETURN_IF_ERROR(AddFrechet(names.fid, generated, reference, of, scores));
  if (!HaveRows(generated, reference, of, 2, {names.kid}, scores)) return absl::OkStatus();
  LOUPE_ASSIGN_OR_RETURN(const auto kernel, analysis::metrics::ComputeKernelDistance(generated, reference));
  scores.values[names.kid] = kernel.mean;
  scores.values[names.kid_sd] = kernel.sd;
  return absl::OkStatus();
}

absl::Status AddPrecisionRecall(const CoverageScores& names, const FeatureMatrix& generated,
                                const FeatureMatrix& reference, PictureScores& scores) {
  if (!HaveRows(generated, reference, kTrainingSet, kNeighbours + 1, {names.precision, names.recall}, scores))
    return absl::OkStatus();
  LOUPE_ASSIGN_OR_RETURN(const auto both, analysis::metrics::ComputePrecisionRecall(generated, reference, kNeighbours));
  scores.values[names.precision] = both.precision;
  scores.values[names.recall] = both.recall;
  return absl::OkStatus();
}

absl::Status AddPriorPreservation(const PriorScores& names, const FeatureMatrix& of_class_prompt,
                                  const FeatureMatrix& subject, std::map<std::string, double>& scores) {
  LOUPE_ASSIGN_OR_RETURN(scores[names.preservation], analysis::metrics::MeanPairwiseCosine(of_class_prompt, subject));
  LOUPE_ASSIGN_OR_RETURN(const double within, analysis::metrics::MeanCosineWithin(of_class_prompt));
  scores[names.diversity] = 1 - within;
  return absl::OkStatus();
}

// Without rows where the network has not looked.
const FeatureMatrix& Of(const PictureFeatures& features, const char* network) {
  static const FeatureMatrix none;
  const auto found = features.others.find(network);
  return found == features.others.end() ? none : found->second;
}

}  // namespace

bool ComparesMatched(const std::string& network) {
  return std::any_of(std::begin(kSimilarityNetworks), std::end(kSimilarityNetworks),
                     [&](const SimilarityNetwork& known) { return known.name == network; });
}

absl::StatusOr<PictureScores> ScorePictures(const PictureFeatures& generated, const ScoreReferences& references) {
  PictureScores scores;
  const PictureFeatures &subject = references.subject, &own = references.own_pictures;
  LOUPE_RETURN_IF_ERROR(AddSimilarities(kClipSimilarity, generated.clip, subject.clip, own.clip, scores));
  LOUPE_ASSIGN_OR_RETURN(scores.values[Score("clip_t")],
                         references.texts.rows > 1
                             ? analysis::metrics::MeanMatchedCosine(generated.clip, references.texts)
                             : analysis::metrics::MeanPairwiseCosine(generated.clip, references.texts));
  LOUPE_RETURN_IF_ERROR(AddDistances(kClipDistance, generated.clip, subject.clip, kTrainingSet, scores));
  LOUPE_ASSIGN_OR_RETURN(scores.values[Score("clip_cmmd")],
                         analysis::metrics::ComputeCmmd(generated.clip, subject.clip));
  LOUPE_RETURN_IF_ERROR(AddPrecisionRecall(kClipCoverage, generated.clip, subject.clip, scores));
  if (references.class_set.rows > 0) {
    LOUPE_RETURN_IF_ERROR(AddDistances(kClipClassDistance, generated.clip, references.class_set, "class", scores));
  }
  for (const SimilarityNetwork& network : kSimilarityNetworks) {
    const auto& rows = Of(generated, network.name);
    if (rows.rows == 0) continue;
    const auto& of_subject = Of(subject, network.name);
    LOUPE_RETURN_IF_ERROR(AddSimilarities(network.similarity, rows, of_subject, Of(own, network.name), scores));
    LOUPE_RETURN_IF_ERROR(AddFrechet(network.frechet, rows, of_subject, kTrainingSet, scores));
  }
  if (const auto& rows = Of(generated, kInception); rows.rows > 0) {
    const auto& of_subject = Of(subject, kInception);
    LOUPE_RETURN_IF_ERROR(AddDistances(kInceptionDistance, rows, of_subject, kTrainingSet, scores));
    LOUPE_RETURN_IF_ERROR(AddPrecisionRecall(kInceptionCoverage, rows, of_subject, scores));
  }
  return scores;
}

absl::StatusOr<std::map<std::string, double>> ScorePriorPreservation(const PictureFeatures& of_class_prompt,
                                                                     const ScoreReferences& references) {
  std::map<std::string, double> scores;
  LOUPE_RETURN_IF_ERROR(AddPriorPreservation(kClipPrior, of_class_prompt.clip, references.subject.clip, scores));
  if (const auto& rows = Of(of_class_prompt, kDino); rows.rows > 0) {
    LOUPE_RETURN_IF_ERROR(AddPriorPreservation(kDinoPrior, rows, Of(references.subject, kDino), scores));
  }
  return scores;
}

}  // namespace loupe::worker::score
