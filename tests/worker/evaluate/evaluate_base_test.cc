// A base measured on what it was trained on and what was held out: the built-in one on a few emoji, and a tiny DiT.
#include "worker/evaluate/evaluate_base.h"

#include <cmath>
#include <fstream>
#include <string>

#include "common/atomic_file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/testing/temp_folder.h"
#include "worker/data/emoji_renderer.h"
#include "worker/data/emoji_set.h"
#include "worker/evaluate/evaluation_report.h"
#include "worker/io/image.h"
#include "worker/pretrain/pretrain.h"

namespace loupe::worker::evaluate {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

class EvaluateBaseTest : public ::testing::Test {
 protected:
  // The first `training` emoji of the built-in list and the first `held_out` of those that it marks.
  void WriteItems(int64_t training, int64_t held_out) {
    const auto all = nlohmann::json::parse(*ReadFile("configs/bases/emoji-sd/items.json"));
    nlohmann::json some = nlohmann::json::array();
    for (const auto& item : all) {
      int64_t& left = item["hold"].get<std::string>().empty() ? training : held_out;
      if (left-- > 0) some.push_back(item);
    }
    ASSERT_TRUE(WriteFileAtomically(request_.items, some.dump()).ok());
  }

  static double Of(const EvaluatedSection& section, size_t set, const std::string& score) {
    return section.sets.at(set).values.at(score);
  }

  testing::TempFolder folder_;
  EvaluationRequest request_{.base = "configs/bases/emoji-sd",
                             .scorer = "configs/scorers/emoji-clip",
                             .items = folder_ / "items.json",
                             .count = 6,
                             .steps = 3,
                             .device = "cpu",
                             .threads = 1,
                             .out = folder_ / "out"};
};

TEST_F(EvaluateBaseTest, SectionsStandBesideEachOtherAtEqualCounts) {
  WriteItems(14, 8);
  const auto evaluation = EvaluateBase(request_);
  ASSERT_TRUE(evaluation.ok()) << evaluation.status();
  ASSERT_EQ(evaluation->sections.size(), 3);
  const EvaluatedSection &training = evaluation->sections[0], &as_many = evaluation->sections[1],
                         &held_out = evaluation->sections[2];
  EXPECT_EQ(training.count, 6);
  EXPECT_EQ(as_many.name, "training, as many");
  EXPECT_EQ(as_many.count, 4);
  EXPECT_EQ(held_out.count, 4);
  EXPECT_EQ(evaluation->training_pictures, 14);
  for (const EvaluatedSection& section : evaluation->sections) {
    ASSERT_EQ(section.sets.size(), 3);
    for (const SetScores& set : section.sets) {
      for (const char* score : {"clip_fid", "clip_kid", "clip_cmmd", "clip_t", "clip_nearest_distance_ratio",
                                "clip_layer_diversity", "clip_precision"}) {
        ASSERT_EQ(set.values.count(score), 1U) << section.name << " " << set.name << " " << score;
        EXPECT_TRUE(std::isfinite(set.values.at(score)));
      }
    }
  }
  // Real training pictures are their own nearest ones; what is held out is none of them.
  EXPECT_EQ(Of(training, 0, "clip_nearest_distance"), 0);
  EXPECT_GT(Of(held_out, 0, "clip_nearest_distance"), 0);
  // The autoencoder gives back what three steps of sampling do not.
  EXPECT_GT(Of(training, 1, "psnr"), 20);
  EXPECT_GT(Of(training, 1, "clip_i"), Of(training, 2, "clip_i"));
  EXPECT_THAT(evaluation->notes, Contains(HasSubstr("of each of the 14 training pictures")));
}

TEST_F(EvaluateBaseTest, HeldOutPairsAreWhatNoCopiesAre) {
  // As deploy/pretrain-world.sh draws them.
  const auto items = data::ReadEmojiItems("configs/bases/emoji-sd/items.json");
  ASSERT_TRUE(items.ok()) << items.status();
  const data::RenderEmojiOptions options{.font_path = std::string(data::kNotoColorEmojiPath),
                                         .out_folder = folder_ / "noto",
                                         .styled = true,
                                         .held_out = {.styles = {}, .pairs_share = 0.4}};
  const auto drawn = data::RenderEmoji({items->begin(), items->begin() + 24}, options);
  ASSERT_TRUE(drawn.ok()) << drawn.status();
  request_.items.clear();
  request_.pictures = {options.out_folder};
  const auto evaluation = EvaluateBase(request_);
  ASSERT_TRUE(evaluation.ok()) << evaluation.status();
  EXPECT_THAT(evaluation->notes, Contains(HasSubstr("pairs held out, from the training pictures")));
  const EvaluatedSection& held_out = evaluation->sections.back();
  EXPECT_EQ(held_out.name, "held out");
  EXPECT_THAT(held_out.captions.front(), HasSubstr(" in noto style"));
  EXPECT_EQ(held_out.captions.size(), static_cast<size_t>(held_out.count));
  EXPECT_GT(Of(held_out, 2, "clip_nearest_distance_ratio"), 0);
}

TEST_F(EvaluateBaseTest, FilesSayTheSameAsTheResult) {
  WriteItems(8, 0);
  request_.count = 4;
  const auto evaluation = EvaluateBase(request_);
  ASSERT_TRUE(evaluation.ok()) << evaluation.status();
  ASSERT_EQ(evaluation->sections.size(), 1);
  const auto json = nlohmann::json::parse(*ReadFile(folder_ / "out/evaluation.json"));
  EXPECT_EQ(json["sections"][0]["sets"]["base"]["clip_cmmd"].get<double>(),
            Of(evaluation->sections[0], 2, "clip_cmmd"));
  EXPECT_EQ(json["base_sha256"], evaluation->base_sha256);
  const std::string table = *ReadFile(folder_ / "out/evaluation.md");
  EXPECT_EQ(table, EvaluationMarkdown(*evaluation));
  EXPECT_THAT(table, HasSubstr("| training (4): real | training (4): autoencoder | training (4): base |"));
  // Real pictures, the base's, and the nearest training pictures: three rows of four.
  const auto sheet = io::ReadImage(folder_ / "out/training.png");
  ASSERT_TRUE(sheet.ok()) << sheet.status();
  EXPECT_EQ(sheet->width, 4 * 66 - 2);
  EXPECT_EQ(sheet->height, 3 * 66 - 2);
}

TEST_F(EvaluateBaseTest, ABaseOfClassesIsAskedForTheClasses) {
  std::ofstream(folder_ / "items.json") << R"([
    {"cp": "1F600", "name": "grinning face", "kw": [], "group": "g", "sub": "face-smiling", "hold": ""},
    {"cp": "1F603", "name": "big eyes", "kw": [], "group": "g", "sub": "face-smiling", "hold": ""},
    {"cp": "1F34E", "name": "red apple", "kw": [], "group": "g", "sub": "food-fruit", "hold": ""},
    {"cp": "1F34C", "name": "banana", "kw": [], "group": "g", "sub": "food-fruit", "hold": ""},
    {"cp": "1F63A", "name": "grinning cat", "kw": [], "group": "g", "sub": "cat-face", "hold": "cat"}])";
  std::ofstream(folder_ / "recipe.yaml") << "seed: 3\nitems: " << request_.items << "\npicture_size: 64\n"
                                         << "vae: {from: configs/bases/emoji-sd/vae}\n"
                                         << "dit: {heads: 2, head_width: 8, layers: 2, batch: 2, steps: 1, "
                                            "checkpoint_every: 1, look_every: 1, sheet_steps: 1}\n";
  const auto config = pretrain::PretrainConfig::Read(folder_ / "recipe.yaml");
  ASSERT_TRUE(config.ok()) << config.status();
  ASSERT_TRUE(pretrain::Pretrain(*config, folder_ / "run", {}).ok());
  request_.base = folder_ / "run/base";
  const auto evaluation = EvaluateBase(request_);
  ASSERT_TRUE(evaluation.ok()) << evaluation.status();
  EXPECT_EQ(evaluation->kind, "DiT");
  ASSERT_EQ(evaluation->sections.size(), 1);
  EXPECT_EQ(evaluation->sections[0].count, 2);
  EXPECT_EQ(evaluation->sections[0].sets[2].values.count("clip_i"), 0U);
  EXPECT_THAT(evaluation->notes, Contains(HasSubstr("Of the 1 pictures held out the base can be asked for 0")));
}

TEST_F(EvaluateBaseTest, WhatDoesNotFitIsSaid) {
  WriteItems(3, 0);
  EXPECT_THAT(std::string(EvaluateBase(request_).status().message()), HasSubstr("3 pictures are too few"));
  request_.items.clear();
  EXPECT_THAT(std::string(EvaluateBase(request_).status().message()), HasSubstr("give either the list of emoji"));
  request_.base = folder_ / "none";
  EXPECT_FALSE(EvaluateBase(request_).ok());
}

}  // namespace
}  // namespace loupe::worker::evaluate
