// FID's Inception network and the ways pictures come to it, against pytorch-fid and clean-fid:
// tests/parity/inception.py wrote the weights, the pictures and the numbers.
#include "worker/models/inception.h"

#include <torch/types.h>

#include <filesystem>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/parity/reference.h"
#include "worker/io/image.h"

namespace loupe::worker {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// The order of inception.py's pictures().
constexpr const char* kPictures[] = {"smooth", "noise", "exact", "wide", "tall", "tiny"};

// Of each picture's own greatest feature. In float64 from float32 pixels, whose last bit may differ: measured 6e-8 and
// less (features are handed out in float32).
constexpr double kInDouble = 1e-6;
// In float32 random weights amplify the rounding of 94 layers: pytorch-fid's own float32 is up to 3e-5 away from its
// float64, this up to 5e-5.
constexpr double kInFloat = 2e-4;

std::string File(const std::string& name) { return ReferenceFolder() + "/inception/" + name; }

std::vector<io::Image> Pictures() {
  std::vector<io::Image> images;
  for (const char* name : kPictures) {
    auto image = io::ReadImage(File(std::string(name) + ".png"));
    TORCH_CHECK(image.ok(), image.status().ToString());
    images.push_back(*std::move(image));
  }
  return images;
}

void ExpectRowsClose(const torch::Tensor& found, const torch::Tensor& expected, double tolerance) {
  ASSERT_EQ(found.sizes(), expected.sizes());
  for (int64_t row = 0; row < found.size(0); ++row) {
    EXPECT_TRUE(Close(found[row], expected[row], tolerance)) << kPictures[row];
  }
}

class InceptionParity : public ::testing::TestWithParam<const char*> {};

TEST_P(InceptionParity, FeaturesAreThoseOfPytorchFid) {
  const auto expected = ReadReference("inception/expected.safetensors")["pytorch_fid"];
  auto scorer =
      models::LoadInceptionScorer(File(GetParam()), models::InceptionResize::kPytorchFid, {.dtype = torch::kFloat64});
  ASSERT_TRUE(scorer.ok()) << scorer.status();
  ExpectRowsClose(scorer->EmbedImages(Pictures()), expected, kInDouble);
  scorer = models::LoadInceptionScorer(File(GetParam()), models::InceptionResize::kPytorchFid);
  ExpectRowsClose(scorer->EmbedImages(Pictures()), expected, kInFloat);
}

INSTANTIATE_TEST_SUITE_P(Files, InceptionParity,
                         ::testing::Values("sequence.pth", "archive.pth", "weights.safetensors"),
                         [](const auto& info) { return std::filesystem::path(info.param).stem().string(); });

TEST(CleanFidParity, PixelsAndFeatures) {
  auto expected = ReadReference("inception/expected.safetensors");
  const auto images = Pictures();
  for (size_t i = 0; i < images.size(); ++i) {
    const auto pixels = models::InceptionPixels(images[i], models::InceptionResize::kCleanFid)[0] * 128 + 128;
    // Pillow sums in float64 and rounds each of its two passes to float32, as here: an ulp or two of 255.
    EXPECT_TRUE(Close(pixels, expected["clean_pixels"][static_cast<int64_t>(i)], 3e-7)) << kPictures[i];
  }
  auto scorer = models::LoadInceptionScorer(File("weights.safetensors"), models::InceptionResize::kCleanFid,
                                            {.dtype = torch::kFloat64});
  ASSERT_TRUE(scorer.ok()) << scorer.status();
  ExpectRowsClose(scorer->EmbedImages(images), expected["clean_fid"], kInDouble);
}

TEST(InceptionFileTest, ADigestInTheNameIsHeldAgainstTheFile) {
  const std::string name = ::testing::TempDir() + "pt_inception-2015-12-05-6726825d.pth";
  std::filesystem::remove(name);
  std::filesystem::create_symlink(std::filesystem::absolute(File("sequence.pth")), name);
  const auto status = models::LoadInceptionScorer(name, models::InceptionResize::kPytorchFid).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(name), HasSubstr("expected 6726825d as its name says")));
}

TEST(InceptionFileTest, OtherWeightsAreNamedWithTheirShapes) {
  const auto status = models::LoadInceptionScorer(ReferenceFolder() + "/checkpoints/good.sequence.pth",
                                                  models::InceptionResize::kPytorchFid)
                          .status();
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("good.sequence.pth: does not fit the Inception network of pytorch-fid's weights"),
                    HasSubstr("'bfloat16' [7] is in the file but not in the network")));
}

}  // namespace
}  // namespace loupe::worker
