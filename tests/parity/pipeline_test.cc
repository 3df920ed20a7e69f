// The built-in base's pictures against diffusers' StableDiffusionPipeline on the same folder, latents and captions:
// tests/parity/pipeline.py wrote them.
#include <torch/types.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/parity/reference.h"
#include "worker/base/base_model.h"
#include "worker/sampling/picture_sampler.h"

namespace loupe::worker {
namespace {

TEST(PipelineParity, SamePicturesFromTheSameLatentsAndCaptions) {
  auto base = base::LoadBase("configs/bases/emoji-sd");
  ASSERT_TRUE(base.ok()) << base.status();
  auto expected = ReadReference("pipeline.safetensors");
  const auto setup = nlohmann::json::parse(std::ifstream(ReferenceFolder() + "/pipeline.json"));
  for (size_t index = 0; index < setup["cases"].size(); ++index) {
    const auto& test_case = setup["cases"][index];
    SCOPED_TRACE(test_case.dump());
    const std::string key = std::to_string(index);
    sampling::SampleOptions options;
    options.sampler =
        test_case["sampler"] == "ddim" ? sampling::SamplerKind::kDdim : sampling::SamplerKind::kDpmSolverPlusPlus2M;
    options.steps = test_case["steps"];
    options.guidance = test_case["guidance"];
    for (int64_t i = 0; i < expected["noise"].size(0); ++i) {
      const auto caption = setup["captions"][static_cast<size_t>(i)].get<std::string>();
      const auto noise = expected["noise"].narrow(0, i, 1);
      // Rounding differences of 1e-6 per step, fed back through the network at each of up to 25 guided steps.
      const auto latents = sampling::SampleLatents(*base, {caption}, noise, options);
      EXPECT_TRUE(Close(latents, expected[key + ".latents"].narrow(0, i, 1), 1e-3)) << caption;
      const auto pictures = base::ImagesFromPictures(base->DecodeLatents(latents));
      const auto bytes = expected[key + ".pictures"][i].contiguous();
      ASSERT_EQ(static_cast<int64_t>(pictures[0].rgb.size()), bytes.numel());
      int furthest = 0;
      int64_t different = 0;
      for (size_t p = 0; p < pictures[0].rgb.size(); ++p) {
        const int difference = std::abs(pictures[0].rgb[p] - bytes.const_data_ptr<uint8_t>()[p]);
        furthest = std::max(furthest, difference);
        different += difference > 0 ? 1 : 0;
      }
      if (std::getenv("LOUPE_PARITY_VERBOSE") != nullptr) {
        fmt::print("  pixels: {} of {} differ, by at most {}\n", different, bytes.numel(), furthest);
      }
      // One level of 255, where a value lies on the border between two.
      EXPECT_LE(furthest, 1) << caption;
    }
  }
}

// pipeline.py had the current transformers and diffusers load and save the built-in base and scorer.
TEST(ResavedParity, BaseGivesTheSameIdsAndPicture) {
  auto base = base::LoadBase("configs/bases/emoji-sd"), resaved = base::LoadBase(ReferenceFolder() + "/resaved/base");
  ASSERT_TRUE(base.ok()) << base.status();
  ASSERT_TRUE(resaved.ok()) << resaved.status();
  const std::vector<std::string> captions = {"a photo of a RED heart!", "", "<|endoftext|>grinning face"};
  EXPECT_TRUE(resaved->conditioner->Ids(captions).equal(base->conditioner->Ids(captions)));
  const auto noise = torch::randn({1, 4, 16, 16}, torch::make_generator<at::CPUGeneratorImpl>(uint64_t{5}));
  sampling::SampleOptions options;
  options.steps = 4;
  const auto latents = sampling::SampleLatents(*base, {captions[0]}, noise, options);
  const auto again = sampling::SampleLatents(*resaved, {captions[0]}, noise, options);
  EXPECT_TRUE(again.equal(latents));
  EXPECT_TRUE(resaved->DecodeLatents(again).equal(base->DecodeLatents(latents)));
}

TEST(ResavedParity, ScorerGivesTheSameEmbeddings) {
  auto scorer = base::LoadClipScorer("configs/scorers/emoji-clip"),
       resaved = base::LoadClipScorer(ReferenceFolder() + "/resaved/scorer");
  ASSERT_TRUE(scorer.ok()) << scorer.status();
  ASSERT_TRUE(resaved.ok()) << resaved.status();
  const io::Image image{30, 20, std::vector<uint8_t>(3 * 30 * 20, 77)};
  EXPECT_TRUE(resaved->EmbedImages({image}).equal(scorer->EmbedImages({image})));
  EXPECT_TRUE(resaved->EmbedTexts({"a cat", ""}).equal(scorer->EmbedTexts({"a cat", ""})));
}

}  // namespace
}  // namespace loupe::worker
