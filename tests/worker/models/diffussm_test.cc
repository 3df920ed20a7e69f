// DiffuSSM's block against its equations written place by place, its size at the paper's, and its gradients; and DiT's
// size at the published one.
#include "worker/models/diffussm.h"

#include <torch/torch.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "common/network_flops.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "worker/models/dit.h"

namespace loupe::worker::models {
namespace {

at::Generator Seeded(uint64_t seed) { return at::make_generator<at::CPUGeneratorImpl>(seed); }

DiffuSSMConfig Small() {
  DiffuSSMConfig config;
  config.sample_size = 4;
  config.width = 8;
  config.layers = 2;
  config.classes = 3;
  config.state_size = 4;
  return config;
}

// Sizes from the shapes alone: nothing is computed and next to nothing touched.
template <typename Network>
double Millions(const Network& network) {
  int64_t count = 0;
  for (const auto& parameter : network->parameters()) count += parameter.numel();
  return static_cast<double>(count) / 1e6;
}

TEST(DiffuSSMTest, BlockIsTheEquationsPlaceByPlace) {
  torch::NoGradGuard no_grad;
  for (const int64_t m : {1, 2, 4}) {
    DiffuSSMConfig config = Small();
    config.hourglass = m;
    DiffuSSMBlock block(config);
    nn::InitialiseAsTorch(*block, Seeded(1));
    std::map<std::string, torch::Tensor> p;
    for (const auto& item : block->named_parameters()) p[item.key()] = item.value();
    const int64_t d = config.width, j = 6, dm = 2 * d / m;
    const auto h = torch::randn({1, j, d}, Seeded(2));
    const auto linear = [&](const std::string& name, const torch::Tensor& x) {
      return p.at(name + ".weight").mv(x) + p.at(name + ".bias");
    };
    auto u = torch::zeros({1, j * m, d});
    for (int64_t l = 0; l < j * m; ++l) {
      const auto wide = p.at("up.weight").narrow(0, (l % m) * d, d), bias = p.at("up.bias").narrow(0, (l % m) * d, d);
      u[0][l] = torch::gelu(wide.mv(torch::gelu(linear("w0", h[0][l / m]))) + bias);
    }
    nn::BidirectionalS4D ssm(d, config.state_size, config.discretisation);
    for (auto& item : ssm->named_parameters()) item.value().copy_(p.at("ssm." + item.key()));
    const auto y = ssm(u);
    for (int64_t place = 0; place < j; ++place) {
      auto narrowed = torch::zeros({2 * d});
      for (int64_t k = 0; k < m; ++k) {
        narrowed.narrow(0, k * dm, dm) = torch::gelu(linear("down." + std::to_string(k), y[0][place * m + k]));
      }
      const auto out = linear("w3", torch::gelu(linear("w2", narrowed)) * torch::gelu(linear("w1", h[0][place])));
      EXPECT_TRUE(torch::allclose(block->Branch(h)[0][place], out, 1e-4, 1e-6)) << m << " " << place;
    }
  }
}

TEST(DiffuSSMTest, GradientsByFiniteDifferences) {
  DiffuSSMConfig config = Small();
  config.layers = 1;
  DiffuSSMModel model(config);
  nn::InitialiseAsTorch(*model, Seeded(3));
  model->to(torch::kFloat64);
  const auto x = torch::randn({1, 4, 4, 4}, Seeded(4), torch::kFloat64);
  const auto t = torch::tensor({123}), label = torch::tensor({2});
  const auto weights = torch::randn({1, 8, 4, 4}, Seeded(5), torch::kFloat64);
  const auto loss = [&] { return (model(x, t, label) * weights).sum(); };
  for (auto& parameter : model->parameters()) parameter.requires_grad_();
  loss().backward();
  torch::NoGradGuard no_grad;
  constexpr double kStep = 1e-6;
  for (auto& item : model->named_parameters()) {
    auto flat = item.value().view(-1);
    // Four of each array, and of the table of classes the row that takes part.
    for (int64_t k = 0; k < 4; ++k) {
      const int64_t i =
          item.key().ends_with("embedding_table.weight") ? 2 * config.width + k : k * (flat.numel() - 1) / 3;
      const double before = flat[i].item<double>();
      flat[i] = before + kStep;
      const double above = loss().item<double>();
      flat[i] = before - kStep;
      const double below = loss().item<double>();
      flat[i] = before;
      const double slope = (above - below) / (2 * kStep), found = item.value().grad().view(-1)[i].item<double>();
      EXPECT_NEAR(found, slope, 1e-5 * (1 + std::abs(slope))) << item.key() << " " << i;
    }
  }
}

TEST(DiffuSSMTest, PaperSizeHasThePapersParameters) {
  DiffuSSMConfig config;
  config.gated = false;
  const double plain = Millions(DiffuSSMModel(config));
  EXPECT_NEAR(plain, 673, 6.73);  // ± 1 %
  config.gated = true;
  // The gate's D² in each of 29 blocks.
  EXPECT_NEAR(Millions(DiffuSSMModel(config)) - plain, 29 * (1152.0 * 1152 + 1152) / 1e6, 1e-6);
}

double WorkOf(const NetworkWork& work, std::string_view kind) {
  for (const LayerWork& layer : work) {
    if (layer.kind == kind) return layer.multiply_adds;
  }
  return 0;
}

// Multiply-adds of the linear layers that a forward pass meets, by their shapes and the rows that they see.
double DenseByShapes(const DiffuSSMConfig& config) {
  const auto l = static_cast<double>(config.sample_size * config.sample_size);
  const double j = l / static_cast<double>(config.hourglass);
  DiffuSSMBlock block(config);
  double total = 0;
  for (const auto& item : block->named_parameters()) {
    const bool counts =
        item.key().ends_with(".weight") && !item.key().starts_with("ssm") && !item.key().starts_with("modulation");
    if (counts) total += static_cast<double>(item.value().numel()) * j;
  }
  return total * static_cast<double>(config.layers);
}

TEST(DiffuSSMTest, DenseWorkIsThePapers) {
  for (const int64_t m : {1, 2, 4}) {
    DiffuSSMConfig config;
    config.hourglass = m;
    const double l = 1024, d = 1152, count = static_cast<double>(m);
    const DiffuSSMShape shape{.hourglass = count};
    const double dense = WorkOf(DiffuSSMWork(shape), "dense");
    EXPECT_DOUBLE_EQ(dense / 29, (13 * l / count + l) * d * d);
    EXPECT_DOUBLE_EQ(dense, DenseByShapes(config));
  }
  EXPECT_DOUBLE_EQ(WorkOf(DiffuSSMWork({}), "dense") / 29, 7.5 * 1024 * 1152 * 1152);
}

TEST(DiffuSSMTest, PositionsAndDirectionsTakePart) {
  torch::NoGradGuard no_grad;
  DiffuSSMModel model(Small());
  nn::InitialiseAsTorch(*model, Seeded(6));
  const auto x = torch::randn({1, 4, 4, 4}, Seeded(7));
  const auto t = torch::tensor({10}), label = torch::tensor({0});
  const auto before = model(x, t, label);
  EXPECT_EQ(before.sizes(), (std::vector<int64_t>{1, 8, 4, 4}));
  auto changed = x.clone();
  changed[0][0][1][1] += 1;
  const auto after = model(changed, t, label);
  // Everything hears of it, before and behind.
  EXPECT_TRUE((after - before).abs().amax(1).gt(0).all().item<bool>());
  EXPECT_FALSE(model(x, t, torch::tensor({3})).equal(before));
  EXPECT_EQ(model(torch::randn({2, 4, 6, 8}), t, torch::tensor({0, 1})).sizes(), (std::vector<int64_t>{2, 8, 6, 8}));
}

TEST(DiffuSSMTest, ConfigErrorsNameTheKey) {
  namespace fs = std::filesystem;
  const fs::path path = fs::path(::testing::TempDir()) / "diffussm_config.json";
  const auto refused = [&](const std::string& json) {
    std::ofstream(path) << json;
    const auto config = DiffuSSMConfig::Read(path.string());
    return config.ok() ? std::string("accepted") : std::string(config.status().message());
  };
  const std::string good = R"("hidden_size": 8, "num_layers": 2, "sample_size": 4)";
  EXPECT_EQ(refused("{" + good + "}"), "accepted");
  EXPECT_THAT(refused("{" + good + R"(, "discretisation": "euler"})"),
              ::testing::AllOf(::testing::HasSubstr(path.string()), ::testing::HasSubstr("\"zoh\" or \"bilinear\"")));
  EXPECT_THAT(refused("{" + good + R"(, "hourglass": 3})"), ::testing::HasSubstr("divides sample_size (4)"));
  EXPECT_THAT(refused("{" + good + R"(, "heads": 3})"), ::testing::HasSubstr("'heads'"));
  EXPECT_THAT(refused(R"({"num_layers": 2, "sample_size": 4})"), ::testing::HasSubstr("hidden_size"));
}

TEST(DiTTest, XL2HasThePublishedParameters) {
  // 675,129,632 numbers in the published file, of which pos_embed's 256 · 1152 are no parameters (arXiv 2212.09748
  // table 1: 675 M).
  EXPECT_NEAR(Millions(DiTTransformer2DModel(DiTConfig{})), 674.83472, 1e-9);
}

}  // namespace
}  // namespace loupe::worker::models
