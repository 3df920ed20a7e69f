#include "worker/pretrain/augment.h"

#include <ATen/CPUGeneratorImpl.h>

#include <functional>
#include <vector>

#include "gtest/gtest.h"

namespace loupe::worker::pretrain {
namespace {

at::Generator Seeded(uint64_t seed) { return at::make_generator<at::CPUGeneratorImpl>(seed); }

torch::Tensor SomePictures(int64_t n) {
  auto random = Seeded(3);
  return torch::rand({n, 3, 16, 16}, random);
}

using Change = std::function<torch::Tensor(const torch::Tensor&, at::Generator&)>;

std::vector<Change> AllChanges() {
  return {[](const auto& x, auto& random) { return RandomAffine(x, 0.4, 0.3, 0.2, random); },
          [](const auto& x, auto& random) { return RandomColours(x, 0.8, random); },
          [](const auto& x, auto& random) { return TransplantMiddles(x, x.flip({0}), 0.7, random); },
          [](const auto& x, auto& random) { return EraseRectangles(x, 0.7, random); },
          [](const auto& x, auto& random) { return RandomBlur(x, 0.7, random); },
          [](const auto& x, auto& random) { return FlipRollPermute(x, random); }};
}

TEST(AugmentTest, WhiteStaysWhite) {
  const auto white = torch::ones({5, 3, 16, 16});
  for (const Change& change : AllChanges()) {
    auto random = Seeded(1);
    // Bilinear weights sum to 1 but for rounding.
    EXPECT_LT((change(white, random) - white).abs().max().item<double>(), 1e-6);
  }
}

TEST(AugmentTest, SameSeedGivesTheSameAndAnotherSeedDoesNot) {
  const auto pictures = SomePictures(6);
  for (const Change& change : AllChanges()) {
    auto first = Seeded(1), again = Seeded(1), other = Seeded(2);
    const auto changed = change(pictures, first);
    EXPECT_EQ(changed.sizes(), pictures.sizes());
    EXPECT_TRUE(changed.equal(change(pictures, again)));
    EXPECT_FALSE(changed.equal(change(pictures, other)));
  }
}

TEST(AugmentTest, ShareZeroChangesNothing) {
  const auto pictures = SomePictures(4);
  auto random = Seeded(1);
  EXPECT_TRUE(EraseRectangles(pictures, 0, random).equal(pictures));
  EXPECT_TRUE(TransplantMiddles(pictures, pictures.flip({0}), 0, random).equal(pictures));
  EXPECT_TRUE(RandomBlur(pictures, 0, random).equal(pictures));
}

TEST(AugmentTest, RollsAndFlipsKeepEveryPixelAndItsNeighbour) {
  const auto pictures = SomePictures(8);
  auto random = Seeded(5);
  const auto moved = FlipRollPermute(pictures, random);
  const auto sorted = [](const torch::Tensor& x) { return std::get<0>(x.flatten(1).sort(1)); };
  EXPECT_TRUE(sorted(moved).equal(sorted(pictures)));
  // Differences around the circle are the same, whichever way round.
  const auto steps = [](const torch::Tensor& x) { return (x - x.roll({1}, {3})).abs(); };
  EXPECT_TRUE(sorted(steps(moved)).allclose(sorted(steps(pictures)), 0, 1e-6));
}

TEST(AugmentTest, TransplantKeepsTheBorderAndTakesTheMiddle) {
  const auto host = torch::zeros({8, 3, 32, 32}), donor = torch::full({8, 3, 32, 32}, 0.5);
  auto random = Seeded(4);
  const auto mixed = TransplantMiddles(host, donor, 1.0, random);
  EXPECT_EQ(mixed.select(3, 0).abs().max().item<double>(), 0);
  EXPECT_EQ((mixed.select(2, 17).select(2, 16) - 0.5).abs().max().item<double>(), 0);
}

}  // namespace
}  // namespace loupe::worker::pretrain
