// Slots of layers and blocks: what a hook sees of a pack, and what the others keep.
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "worker/nn/leaf_layers.h"
#include "worker/nn/taps.h"

namespace loupe::worker::nn {
namespace {

// What it gives is told by a number: the layer's own output (or, where it replaces it, zeros) plus that number.
class AddHook : public LayerHook {
 public:
  AddHook(double number, bool extends) : number_(number), extends_(extends) {}
  bool extends() const override { return extends_; }
  torch::Tensor Forward(const torch::Tensor& x, const torch::Tensor& own) const override {
    rows = x.size(0);
    EXPECT_EQ(own.defined(), extends_);
    return (extends_ ? own : torch::zeros({x.size(0), 3})) + number_;
  }
  mutable int64_t rows = 0;

 private:
  const double number_;
  const bool extends_;
};

Linear MakeLinear() {
  Linear layer(2, 3);
  layer->Reset(at::detail::createCPUGenerator(1));
  return layer;
}

TEST(LayerHooksTest, EachSlotHasItsOwnHook) {
  Linear layer = MakeLinear();
  const auto x = torch::randn({10, 2});  // five slots, two rows each
  const auto plain = layer(x);
  const auto second = std::make_shared<AddHook>(1, true), third = std::make_shared<AddHook>(2, false),
             last = std::make_shared<AddHook>(4, true);
  // Not in order.
  ASSERT_TRUE(layer->slot.Attach({4, 1, 5}, last));
  ASSERT_TRUE(layer->slot.Attach({1, 1, 5}, second));
  ASSERT_TRUE(layer->slot.Attach({2, 1, 5}, third));
  const auto y = layer(x);
  EXPECT_EQ(second->rows, 2);
  const auto rows = [](const torch::Tensor& all, int64_t slot) { return all.narrow(0, 2 * slot, 2); };
  EXPECT_TRUE(rows(y, 0).allclose(rows(plain, 0)));
  EXPECT_TRUE(rows(y, 1).allclose(rows(plain, 1) + 1));
  EXPECT_TRUE(rows(y, 2).equal(torch::full({2, 3}, 2.0)));
  EXPECT_TRUE(rows(y, 3).allclose(rows(plain, 3)));
  EXPECT_TRUE(rows(y, 4).allclose(rows(plain, 4) + 4));
  layer->slot.Detach(second.get());
  layer->slot.Detach(third.get());
  layer->slot.Detach(last.get());
  EXPECT_TRUE(layer(x).equal(plain)) << "nothing stays behind";
}

TEST(LayerHooksTest, ATakenSlotIsNotGivenTwice) {
  Linear layer = MakeLinear();
  const auto hook = std::make_shared<AddHook>(1, true);
  ASSERT_TRUE(layer->slot.Attach({1, 2, 4}, hook));
  EXPECT_FALSE(layer->slot.Attach({2, 2, 4}, std::make_shared<AddHook>(1, true)));
  EXPECT_FALSE(layer->slot.Attach({0, 2, 4}, std::make_shared<AddHook>(1, true)));
  EXPECT_FALSE(layer->slot.Attach({3, 1, 5}, std::make_shared<AddHook>(1, true))) << "of a pack of another size";
  EXPECT_TRUE(layer->slot.Attach({3, 1, 4}, std::make_shared<AddHook>(1, true)));
  EXPECT_EQ(layer->slot.entries().size(), 2u);
}

TEST(LayerHooksTest, RowsThatDoNotFitThePackAreRefused) {
  Linear layer = MakeLinear();
  ASSERT_TRUE(layer->slot.Attach({1, 1, 2}, std::make_shared<AddHook>(1, true)));
  EXPECT_THROW(layer(torch::randn({3, 2})), c10::Error);
}

// Doubles at one tap, and returns the very tensor elsewhere.
class DoublingTaps : public BlockTaps {
  class Pass : public BlockPass {
   public:
    torch::Tensor At(Tap tap, const torch::Tensor& x) override { return tap == Tap::kSaIn ? 2 * x : x; }
  };

 public:
  std::unique_ptr<BlockPass> Begin() override { return std::make_unique<Pass>(); }
};

TEST(TapSlotTest, EachSlotHasItsOwnTaps) {
  TapSlot slot;
  ASSERT_TRUE(slot.Attach({1, 1, 3}, std::make_shared<DoublingTaps>()));
  const TapPass pass(slot);
  const auto x = torch::randn({6, 4});
  const auto y = pass(Tap::kSaIn, x);
  EXPECT_TRUE(y.equal(torch::cat({x.narrow(0, 0, 2), 2 * x.narrow(0, 2, 2), x.narrow(0, 4, 2)})));
  EXPECT_TRUE(pass(Tap::kSaOut, x).is_same(x)) << "where nothing is changed, nothing is copied";
}

}  // namespace
}  // namespace loupe::worker::nn
