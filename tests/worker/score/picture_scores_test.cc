// Which scores a set of pictures gets from which features. (Their values: tests/analysis/metrics.)
#include "worker/score/picture_scores.h"

#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "analysis/metrics/cosine_similarity.h"
#include "analysis/metrics/embedding_mmd.h"
#include "analysis/metrics/frechet_distance.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace loupe::worker::score {
namespace {

using analysis::metrics::FeatureMatrix;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Key;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

FeatureMatrix Random(int64_t rows, int64_t cols, uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<double> normal(0.5, 1);
  FeatureMatrix features{rows, cols, {}};
  for (int64_t i = 0; i < rows * cols; ++i) features.values.push_back(static_cast<float>(normal(generator)));
  return features;
}

std::vector<std::string> Names(const std::map<std::string, double>& scores) {
  std::vector<std::string> names;
  names.reserve(scores.size());
  for (const auto& [name, value] : scores) names.push_back(name);
  return names;
}

// Six generated and five training pictures, CLIP in four dimensions.
struct Sets {
  PictureFeatures generated{.clip = Random(6, 4, 1), .others = {}};
  ScoreReferences references;
  Sets() {
    references.subject.clip = Random(5, 4, 2);
    references.texts = Random(1, 4, 3);
  }
};

TEST(PictureScoresTest, ClipAloneGivesItsOwnScores) {
  const Sets sets;
  const auto scores = ScorePictures(sets.generated, sets.references);
  ASSERT_TRUE(scores.ok()) << scores.status();
  EXPECT_THAT(Names(scores->values),
              ElementsAre("clip_cmmd", "clip_diversity", "clip_fid", "clip_i", "clip_kid", "clip_kid_sd",
                          "clip_nearest", "clip_precision", "clip_recall", "clip_t"));
  EXPECT_EQ(scores->values.at("clip_i"),
            *analysis::metrics::MeanPairwiseCosine(sets.generated.clip, sets.references.subject.clip));
  EXPECT_EQ(scores->values.at("clip_cmmd"),
            *analysis::metrics::ComputeCmmd(sets.generated.clip, sets.references.subject.clip));
}

TEST(PictureScoresTest, OtherNetworksAndTheClassAddTheirs) {
  Sets sets;
  const Sets plain;
  sets.references.class_set = Random(3, 4, 4);
  sets.generated.others["dino"] = Random(6, 7, 5);
  sets.references.subject.others["dino"] = Random(5, 7, 6);
  sets.generated.others["effnet"] = Random(6, 9, 9);
  sets.references.subject.others["effnet"] = Random(5, 9, 10);
  sets.generated.others["inception"] = Random(6, 8, 7);
  sets.references.subject.others["inception"] = Random(5, 8, 8);
  const auto scores = ScorePictures(sets.generated, sets.references);
  ASSERT_TRUE(scores.ok()) << scores.status();
  for (const char* name :
       {"clip_fid_class", "clip_kid_class", "clip_kid_class_sd", "dino_i", "dino_nearest", "dino_diversity", "dino_fd",
        "effnet_i", "effnet_nearest", "effnet_diversity", "effnet_fd", "fid", "kid", "kid_sd", "precision", "recall"}) {
    EXPECT_TRUE(scores->values.contains(name)) << name;
  }
  EXPECT_EQ(scores->values.size(), 10u + 16u);
  EXPECT_EQ(scores->values.at("dino_i"), *analysis::metrics::MeanPairwiseCosine(
                                             sets.generated.others["dino"], sets.references.subject.others["dino"]));
  EXPECT_EQ(scores->values.at("dino_fd"), analysis::metrics::ComputeFrechetDistance(
                                              sets.generated.others["dino"], sets.references.subject.others["dino"])
                                              ->value);
  EXPECT_EQ(
      scores->values.at("effnet_nearest"),
      *analysis::metrics::MeanNearestCosine(sets.generated.others["effnet"], sets.references.subject.others["effnet"]));
  EXPECT_EQ(scores->values.at("clip_fid"), ScorePictures(plain.generated, plain.references)->values.at("clip_fid"))
      << "what CLIP says does not depend on the others";
}

TEST(PictureScoresTest, PicturesWithCaptionsAreComparedWithTheirOwn) {
  Sets sets;
  sets.generated.others["dino"] = Random(6, 7, 5);
  sets.references.subject.others["dino"] = Random(5, 7, 6);
  sets.references.own_pictures = sets.generated;
  sets.references.texts = sets.generated.clip;
  const auto scores = ScorePictures(sets.generated, sets.references);
  ASSERT_TRUE(scores.ok()) << scores.status();
  for (const char* name : {"clip_i", "clip_t", "dino_i"}) EXPECT_NEAR(scores->values.at(name), 1, 1e-15) << name;
}

TEST(PictureScoresTest, AFrechetDistanceFromFewPicturesWarnsUnderItsName) {
  Sets sets;
  sets.generated.others["inception"] = Random(6, 8, 7);
  sets.references.subject.others["inception"] = Random(5, 8, 8);
  const auto scores = ScorePictures(sets.generated, sets.references);
  ASSERT_TRUE(scores.ok()) << scores.status();
  EXPECT_THAT(scores->warnings,
              ElementsAre(Pair("fid", HasSubstr("6 generated and 5 reference pictures in 8 dimensions"))))
      << "CLIP's four dimensions have pictures enough";
}

TEST(PictureScoresTest, PriorPreservationIsOfTheNetworksThereAre) {
  Sets sets;
  const auto clip = ScorePriorPreservation(sets.generated, sets.references);
  ASSERT_TRUE(clip.ok()) << clip.status();
  EXPECT_THAT(*clip, UnorderedElementsAre(Key("clip_pres"), Key("clip_div")));
  sets.generated.others["dino"] = sets.references.subject.others["dino"] = {2, 2, {1, 0, 1, 0}};
  const auto both = ScorePriorPreservation(sets.generated, sets.references);
  ASSERT_TRUE(both.ok()) << both.status();
  EXPECT_DOUBLE_EQ(both->at("dino_pres"), 1) << "the class became the subject";
  EXPECT_DOUBLE_EQ(both->at("dino_div"), 0) << "and all its pictures alike";
  EXPECT_EQ(both->at("clip_pres"), clip->at("clip_pres"));
}

TEST(PictureScoresTest, OnePictureHasTheScoresThatItCanHave) {
  Sets sets;
  sets.references.subject.clip = Random(1, 4, 2);
  sets.references.class_set = Random(1, 4, 4);
  const auto scores = ScorePictures(sets.generated, sets.references);
  ASSERT_TRUE(scores.ok()) << scores.status();
  EXPECT_THAT(Names(scores->values), ElementsAre("clip_cmmd", "clip_diversity", "clip_i", "clip_nearest", "clip_t"));
  EXPECT_THAT(scores->missing,
              UnorderedElementsAre(
                  Pair("clip_fid", HasSubstr("needs 2 pictures of either kind, but there are 6 generated and 1 of "
                                             "the training set")),
                  Key("clip_kid"), Key("clip_precision"), Key("clip_recall"),
                  Pair("clip_fid_class", HasSubstr("1 of the class")), Key("clip_kid_class")));
}

TEST(PictureScoresTest, ThreePicturesHaveNoNeighbourhoods) {
  Sets sets;
  sets.references.subject.clip = Random(3, 4, 2);
  const auto scores = ScorePictures(sets.generated, sets.references);
  ASSERT_TRUE(scores.ok()) << scores.status();
  EXPECT_TRUE(scores->values.contains("clip_fid"));
  EXPECT_THAT(scores->missing, UnorderedElementsAre(Key("clip_precision"), Key("clip_recall")));
}

TEST(PictureScoresTest, EqualPicturesAreALegitimateSet) {
  Sets sets;
  sets.generated.clip = {6, 4, std::vector<float>(24, 0.25F)};
  sets.references.subject.clip = {5, 4, std::vector<float>(20, 0.25F)};
  const auto scores = ScorePictures(sets.generated, sets.references);
  ASSERT_TRUE(scores.ok()) << scores.status();
  EXPECT_NEAR(scores->values.at("clip_fid"), 0, 1e-12);
  for (const auto& [name, value] : scores->values) EXPECT_TRUE(std::isfinite(value)) << name;
}

TEST(PictureScoresTest, EmbeddingsThatAreNotFiniteAreAnError) {
  Sets sets;
  sets.generated.clip.values[5] = std::nanf("");
  EXPECT_EQ(ScorePictures(sets.generated, sets.references).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace loupe::worker::score
