// A recipe's dit and diffussm sections: what they train is a base that loads, whose prompts are the list's groups.
#include "worker/pretrain/class_part.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_folder.h"
#include "worker/base/base_model.h"
#include "worker/pretrain/pretrain.h"

namespace loupe::worker::pretrain {
namespace {

using ::testing::HasSubstr;

class ClassPartTest : public ::testing::Test {
 protected:
  absl::StatusOr<PretrainConfig> Config(const std::string& section) {
    // Two groups of a few emoji each.
    std::ofstream(folder_ / "items.json") << R"([
      {"cp": "1F600", "name": "grinning face", "kw": [], "group": "g", "sub": "face-smiling", "hold": ""},
      {"cp": "1F603", "name": "big eyes", "kw": [], "group": "g", "sub": "face-smiling", "hold": ""},
      {"cp": "1F34E", "name": "red apple", "kw": [], "group": "g", "sub": "food-fruit", "hold": ""},
      {"cp": "1F34C", "name": "banana", "kw": [], "group": "g", "sub": "food-fruit", "hold": ""}])";
    std::ofstream(folder_ / "recipe.yaml") << "seed: 3\nitems: " << folder_ / "items.json"
                                           << "\npicture_size: 64\n"
                                           << "vae: {from: configs/bases/emoji-sd/vae}\n"
                                           << section;
    return PretrainConfig::Read(folder_ / "recipe.yaml");
  }

  testing::TempFolder folder_;
};

TEST_F(ClassPartTest, TrainedBaseLoadsAndGoesOn) {
  for (const auto& [kind, section] : {std::pair{"dit", "dit: {heads: 2, head_width: 8, layers: 2, "},
                                      {"diffussm", "diffussm: {width: 16, layers: 2, "}}) {
    const auto config =
        Config(std::string(section) + "batch: 2, steps: 3, checkpoint_every: 1, look_every: 3, sheet_steps: 1}\n");
    ASSERT_TRUE(config.ok()) << config.status();
    const std::string whole = folder_ / (std::string(kind) + "-whole"),
                      halves = folder_ / (std::string(kind) + "-halves");
    ASSERT_TRUE(Pretrain(*config, whole, {}).ok());
    ASSERT_TRUE(Pretrain(*config, halves, {.steps = 2}).ok());
    ASSERT_TRUE(Pretrain(*config, halves, {}).ok());
    auto base = base::LoadBase(whole + "/base"), other = base::LoadBase(halves + "/base");
    ASSERT_TRUE(base.ok()) << base.status();
    ASSERT_TRUE(other.ok()) << other.status();
    EXPECT_EQ(base->classes.classes(), 2);
    EXPECT_TRUE(base->conditioner->Ids({"food-fruit", ""}).equal(torch::tensor({{1}, {2}})));
    EXPECT_TRUE(base->denoiser->PredictsVariance());
    const auto a = base->denoiser->network().parameters(), b = other->denoiser->network().parameters();
    ASSERT_EQ(a.size(), b.size());
    bool moved = false;
    for (size_t i = 0; i < a.size(); ++i) {
      EXPECT_TRUE(a[i].equal(b[i]));
      moved = moved || a[i].abs().max().item<double>() > 0;
    }
    EXPECT_TRUE(moved);
    EXPECT_TRUE(std::filesystem::exists(whole + "/sheets/" + kind + "-000003.png"));
  }
}

TEST_F(ClassPartTest, SectionsAreHeldToTheirKeys) {
  const auto refused = [&](const std::string& section) { return std::string(Config(section).status().message()); };
  EXPECT_THAT(refused("dit: {width: 8}\n"), HasSubstr("unknown key 'width' in 'dit'"));
  EXPECT_THAT(refused("diffussm: {modulation: none}\n"), HasSubstr("shift-scale-gate or shift-scale"));
  EXPECT_THAT(refused("dit: {layers: 2}\ndiffussm: {layers: 2}\n"), HasSubstr("exclude each other"));
}

}  // namespace
}  // namespace loupe::worker::pretrain
