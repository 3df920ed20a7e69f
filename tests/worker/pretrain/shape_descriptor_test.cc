#include "worker/pretrain/shape_descriptor.h"

#include "gtest/gtest.h"

namespace loupe::worker::pretrain {
namespace {

// A filled disc or square of one colour on white, [3, 64, 64].
torch::Tensor Blob(bool disc, double r, double g, double b) {
  const auto y = torch::linspace(-1, 1, 64).view({64, 1}), x = torch::linspace(-1, 1, 64).view({1, 64});
  const auto inside = disc ? (x.square() + y.square() < 0.6) : torch::maximum(x.abs() + 0 * y, y.abs() + 0 * x) < 0.7;
  const auto colour = torch::tensor({r, g, b}, torch::kFloat32).view({3, 1, 1});
  return torch::where(inside.unsqueeze(0), colour, torch::ones({}));
}

TEST(ShapeDescriptorTest, OneShapeInTwoColoursIsNearerThanTwoShapesInOne) {
  const auto pictures =
      torch::stack({Blob(true, 0.9, 0.2, 0.1), Blob(true, 0.1, 0.3, 0.9), Blob(false, 0.9, 0.2, 0.1),
                    Blob(false, 0.1, 0.3, 0.9), Blob(true, 0.9, 0.8, 0.1), Blob(false, 0.2, 0.7, 0.2)});
  const auto d = ShapeDescriptor(pictures, 8).Describe(pictures);
  const auto cosines = torch::mm(d, d.t());
  EXPECT_GT(cosines[0][1].item<double>(), cosines[0][2].item<double>() + 0.3);
  EXPECT_GT(cosines[2][3].item<double>(), cosines[1][3].item<double>() + 0.3);
}

TEST(ShapeDescriptorTest, RowsHaveLengthOneAndFewPicturesFillOnlyTheFirstColumns) {
  const auto pictures = torch::stack({Blob(true, 0.9, 0.2, 0.1), Blob(false, 0.1, 0.3, 0.9), Blob(true, 0, 0, 0)});
  const auto d = ShapeDescriptor(pictures, 16).Describe(pictures);
  EXPECT_EQ(d.size(1), 16);
  EXPECT_TRUE(d.norm(2, 1).allclose(torch::ones({3}), 1e-5));
  EXPECT_EQ(d.slice(1, 3).abs().max().item<double>(), 0);
}

}  // namespace
}  // namespace loupe::worker::pretrain
