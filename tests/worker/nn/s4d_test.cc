// S4D as a convolution against its recurrence, state by state, and against another package; the two directions;
// gradients.
#include "worker/nn/s4d.h"

#include <torch/torch.h>

#include <complex>
#include <fstream>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "worker/runtime/autocast_scope.h"

namespace loupe::worker::nn {
namespace {

using Complex = std::complex<double>;

S4D MakeS4D(int64_t channels, int64_t states, Discretisation discretisation,
            Direction direction = Direction::kForward) {
  S4D s4d(channels, states, discretisation, direction);
  s4d->Reset(at::make_generator<at::CPUGeneratorImpl>(uint64_t{5}));
  return s4d;
}

// The header's second line, step by step in float64. u: [L, H].
torch::Tensor Recurrence(const torch::Tensor& weight, const torch::Tensor& u, Discretisation discretisation) {
  const auto w = weight.to(torch::kFloat64);
  const int64_t channels = w.size(0), pairs = (w.size(1) - 2) / 4;
  auto y = torch::zeros_like(u);
  for (int64_t h = 0; h < channels; ++h) {
    const auto at = [&](int64_t column) { return w[h][column].item<double>(); };
    const double step = std::exp(at(0)), direct = at(1);
    std::vector<Complex> decay, input, c, state(static_cast<size_t>(pairs));
    for (int64_t n = 0; n < pairs; ++n) {
      const Complex a(-std::exp(at(2 + n)), at(2 + pairs + n));
      c.emplace_back(at(2 + 2 * pairs + n), at(2 + 3 * pairs + n));
      if (discretisation == Discretisation::kZeroOrderHold) {
        decay.push_back(std::exp(step * a));
        input.push_back((decay.back() - 1.0) / a);
      } else {
        decay.push_back((1.0 + step * a / 2.0) / (1.0 - step * a / 2.0));
        input.push_back(step / (1.0 - step * a / 2.0));
      }
    }
    for (int64_t l = 0; l < u.size(0); ++l) {
      const double now = u[l][h].item<double>();
      double sum = direct * now;
      for (size_t n = 0; n < state.size(); ++n) {
        state[n] = decay[n] * state[n] + input[n] * now;
        sum += 2 * (c[n] * state[n]).real();
      }
      y[l][h] = sum;
    }
  }
  return y;
}

double Furthest(const torch::Tensor& a, const torch::Tensor& b) {
  return (a.to(torch::kFloat64) - b).abs().max().item<double>() / b.abs().max().item<double>();
}

class S4DTest : public ::testing::TestWithParam<Discretisation> {};

TEST_P(S4DTest, ConvolutionIsTheRecurrence) {
  for (const int64_t length : {1, 2, 37, 64}) {
    for (const Direction direction : {Direction::kForward, Direction::kBackward}) {
      const S4D s4d = MakeS4D(3, 8, GetParam(), direction);
      const auto u =
          torch::randn({2, length, 3}, at::make_generator<at::CPUGeneratorImpl>(uint64_t{6}), torch::kFloat64);
      const auto found = s4d->Apply(u, s4d->weight, {});
      const auto in_float32 = s4d->Apply(u.to(torch::kFloat32), s4d->weight, {});
      for (int64_t row = 0; row < 2; ++row) {
        const bool flips = direction == Direction::kBackward;
        auto wanted = Recurrence(s4d->weight, flips ? u[row].flip({0}) : u[row], GetParam());
        if (flips) wanted = wanted.flip({0});
        EXPECT_LE(Furthest(found[row], wanted), 1e-12) << length;
        // A transform's float32 roundings, of sums of up to 128 terms.
        EXPECT_LE(Furthest(in_float32[row], wanted), 1e-5) << length;
      }
    }
  }
}

// Of both directions at once: the kernels that share a transform, forward and back.
TEST_P(S4DTest, GradientsByFiniteDifferences) {
  BidirectionalS4D both(2, 4, GetParam());
  InitialiseAsTorch(*both, at::make_generator<at::CPUGeneratorImpl>(uint64_t{5}));
  both->to(torch::kFloat64);
  auto weights_of_both = both->parameters();
  auto u =
      torch::randn({1, 9, 2}, at::make_generator<at::CPUGeneratorImpl>(uint64_t{7}), torch::kFloat64).requires_grad_();
  for (auto& weight : weights_of_both) weight.requires_grad_();
  const auto loss = [&] {
    const auto factors = torch::arange(1, 37, torch::kFloat64).view({1, 9, 4});
    return (both(u).sin() * factors).sum();
  };
  loss().backward();
  torch::NoGradGuard no_grad;
  constexpr double kStep = 1e-6;
  const auto compare = [&](torch::Tensor& leaf) {
    const auto flat = leaf.view(-1), gradient = leaf.grad().reshape(-1);
    for (int64_t i = 0; i < flat.numel(); ++i) {
      const double before = flat[i].item<double>();
      flat[i] = before + kStep;
      const double above = loss().item<double>();
      flat[i] = before - kStep;
      const double below = loss().item<double>();
      flat[i] = before;
      const double slope = (above - below) / (2 * kStep), found = gradient[i].item<double>();
      EXPECT_NEAR(found, slope, 1e-6 * (1 + std::abs(slope))) << i;
    }
  };
  for (auto& weight : weights_of_both) compare(weight);
  compare(u);
}

torch::Tensor Matrix(const nlohmann::json& rows) {
  std::vector<torch::Tensor> found;
  for (const auto& row : rows) found.push_back(torch::tensor(row.get<std::vector<double>>(), torch::kFloat64));
  return torch::stack(found);
}

// Another implementation, of those who published S4D: s4d_lrnnx.py wrote its numbers.
TEST_P(S4DTest, KernelsAndOutputsAreLrnnxs) {
  const auto cases = nlohmann::json::parse(std::ifstream("tests/worker/nn/s4d_lrnnx.json"));
  const auto& expected = cases.at(GetParam() == Discretisation::kZeroOrderHold ? 0 : 1);
  const auto weight = Matrix(expected["weight"]), u = Matrix(expected["u"]);
  const S4D s4d(weight.size(0), (weight.size(1) - 2) / 2, GetParam());
  auto kernel = Matrix(expected["kernel"]);
  kernel.select(1, 0).add_(weight.select(1, 1));  // D on K_0
  EXPECT_LE(Furthest(s4d->Kernel(weight, u.size(0)), kernel), 1e-13);
  EXPECT_LE(Furthest(s4d->Apply(u.unsqueeze(0), weight, {})[0], Matrix(expected["y"])), 1e-12);
}

INSTANTIATE_TEST_SUITE_P(Discretisations, S4DTest,
                         ::testing::Values(Discretisation::kZeroOrderHold, Discretisation::kBilinear),
                         [](const auto& info) {
                           return info.param == Discretisation::kZeroOrderHold ? "ZeroOrderHold" : "Bilinear";
                         });

TEST(S4DPrecisionTest, TransformIsFloat32UnderAutocast) {
  torch::NoGradGuard no_grad;
  const S4D s4d = MakeS4D(4, 8, Discretisation::kZeroOrderHold);
  const auto x = torch::randn({1, 300, 4}, at::make_generator<at::CPUGeneratorImpl>(uint64_t{8})).to(torch::kBFloat16);
  const auto plain = s4d->Apply(x.to(torch::kFloat32), s4d->weight, {});
  const runtime::AutocastScope autocast({torch::kCPU, true, torch::kBFloat16});
  const auto under = s4d->Apply(x, s4d->weight, {});
  EXPECT_EQ(under.scalar_type(), torch::kBFloat16);
  EXPECT_TRUE(under.equal(plain.to(torch::kBFloat16)));
}

// Rows go through a CPU's cache some at a time; that they are many or long changes nothing.
TEST(S4DPrecisionTest, RowsAreIndependent) {
  torch::NoGradGuard no_grad;
  BidirectionalS4D both(64, 4, Discretisation::kZeroOrderHold);
  InitialiseAsTorch(*both, at::make_generator<at::CPUGeneratorImpl>(uint64_t{11}));
  for (const int64_t length : {100, 600}) {
    const auto x = torch::randn({7, length, 64}, at::make_generator<at::CPUGeneratorImpl>(uint64_t{12}));
    const auto all = both(x);
    for (int64_t row = 0; row < 7; ++row) EXPECT_TRUE(all[row].equal(both(x.narrow(0, row, 1))[0])) << row;
  }
}

// A hook takes the directions apart: the same numbers.
TEST(BidirectionalS4DTest, DirectionsAloneAreBothTogether) {
  torch::NoGradGuard no_grad;
  BidirectionalS4D both(3, 4, Discretisation::kBilinear);
  InitialiseAsTorch(*both, at::make_generator<at::CPUGeneratorImpl>(uint64_t{13}));
  const auto x = torch::randn({2, 21, 3}, at::make_generator<at::CPUGeneratorImpl>(uint64_t{14}));
  const auto parts = both(x).chunk(2, 2);
  const auto children = both->children();
  for (size_t i = 0; i < 2; ++i) {
    const auto* own = children[i]->as<S4DImpl>();
    EXPECT_TRUE(parts[i].equal(own->Apply(x, own->weight, {}))) << i;
  }
}

// What is kept of frozen weights is bit for bit what trained ones would make anew, and never outlives them.
TEST(BidirectionalS4DTest, KeptTransformsFollowTheWeights) {
  BidirectionalS4D frozen(3, 4, Discretisation::kZeroOrderHold), trained(3, 4, Discretisation::kZeroOrderHold);
  InitialiseAsTorch(*frozen, at::make_generator<at::CPUGeneratorImpl>(uint64_t{15}));
  for (auto& weight : trained->parameters()) weight.requires_grad_();
  const auto expect_equal = [&](int64_t length, const char* when) {
    auto from = frozen->parameters(), to = trained->parameters();
    for (size_t i = 0; i < from.size(); ++i) {
      const torch::NoGradGuard no_grad;
      to[i].copy_(from[i]);
    }
    for (const char* pass : {"first", "second"}) {
      const auto x = torch::randn({2, length, 3}, at::make_generator<at::CPUGeneratorImpl>(uint64_t{16}));
      const auto a = x.clone().requires_grad_(), b = x.clone().requires_grad_();
      const auto ya = frozen(a), yb = trained(b);
      EXPECT_TRUE(ya.equal(yb)) << when << ", " << pass;
      ya.square().sum().backward();
      yb.square().sum().backward();
      EXPECT_TRUE(a.grad().equal(b.grad())) << when << ", " << pass;
    }
  };
  expect_equal(21, "at first");
  expect_equal(8, "another length");
  torch::Tensor weight = frozen->parameters()[1];
  {
    const torch::NoGradGuard no_grad;
    weight.mul_(1.5);
  }
  expect_equal(8, "written to");
  weight.set_data(weight.clone().mul_(0.5));
  expect_equal(8, "another array");
}

TEST(BidirectionalS4DTest, FlippingExchangesTheDirections) {
  torch::NoGradGuard no_grad;
  BidirectionalS4D both(3, 4, Discretisation::kZeroOrderHold), swapped(3, 4, Discretisation::kZeroOrderHold);
  InitialiseAsTorch(*both, at::make_generator<at::CPUGeneratorImpl>(uint64_t{9}));
  auto own = both->named_parameters(), other = swapped->named_parameters();
  other["forward.weight"].copy_(own["backward.weight"]);
  other["backward.weight"].copy_(own["forward.weight"]);
  const auto x = torch::randn({2, 21, 3}, at::make_generator<at::CPUGeneratorImpl>(uint64_t{10}));
  const auto there = both(x).chunk(2, 2), back = swapped(x.flip({1})).flip({1}).chunk(2, 2);
  // Looking ahead is a product of its own, not a flip: the roundings of a transform apart.
  EXPECT_TRUE(torch::allclose(there[0], back[1], 0, 1e-6));
  EXPECT_TRUE(torch::allclose(there[1], back[0], 0, 1e-6));
  // The first half looks back alone, the second ahead alone.
  auto changed = x.clone();
  changed.select(1, 10).add_(1);
  const auto after = both(changed).chunk(2, 2);
  EXPECT_TRUE(torch::allclose(after[0].narrow(1, 0, 10), there[0].narrow(1, 0, 10), 0, 1e-5));
  EXPECT_TRUE(torch::allclose(after[1].narrow(1, 11, 10), there[1].narrow(1, 11, 10), 0, 1e-5));
  EXPECT_FALSE(torch::allclose(after[0].select(1, 20), there[0].select(1, 20), 0, 1e-4));
  EXPECT_FALSE(torch::allclose(after[1].select(1, 0), there[1].select(1, 0), 0, 1e-4));
}

}  // namespace
}  // namespace loupe::worker::nn
