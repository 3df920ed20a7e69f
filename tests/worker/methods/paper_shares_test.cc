// What the methods train of DiT-XL/2, counted over its shapes, beside the shares in table 1 of DiffFit's paper (arXiv
// 2304.06648). There every row but the full one trains the class embedding too, since the data sets' classes are new:
// 102 rows for Food-101. The settings that the paper does not state are those whose counts are its: LoRA on queries and
// values (the fused layer of all three has as many numbers), adapters of width 64 at the feed-forward, 84 prompts.
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "tests/worker/methods/small_network.h"
#include "worker/methods/method_registry.h"
#include "worker/models/dit.h"

namespace loupe::worker::methods {
namespace {

class PaperSharesTest : public ::testing::Test {
 protected:
  // Its weights stay uninitialised, so that the operating system gives them no memory.
  PaperSharesTest() {
    models::DiTConfig config;  // XL/2's
    config.classes = 101;
    network_ = models::DiTTransformer2DModel(config);
    sites_ = nn::SitesIn(*network_);
    for (const auto& item : network_->named_parameters()) {
      total_ += item.value().numel();
      if (item.key().ends_with("embedding_table.weight")) embedding_ += item.value().numel();
    }
  }

  int64_t Count(std::map<std::string, std::string> values) {
    return MakeMethod(sites_, {{MethodSettings(values), 1}}, torch::kCPU)->ParametersOf(0);
  }
  double Percent(int64_t numbers) const { return 100.0 * static_cast<double>(numbers) / static_cast<double>(total_); }

  models::DiTTransformer2DModel network_{nullptr};
  nn::TuningSites sites_;
  int64_t total_ = 0, embedding_ = 0;
};

TEST_F(PaperSharesTest, CountsAtDiTXL2AreThePapers) {
  EXPECT_EQ(embedding_, 102 * 1152);
  const int64_t biases = 489632, blocks = 28, width = 1152;
  const int64_t bitfit = Count({{"method.kind", "bitfit"}});
  EXPECT_EQ(bitfit, biases);
  EXPECT_NEAR(Percent(bitfit + embedding_), 0.09, 0.01);
  const int64_t difffit = Count({{"method.kind", "difffit"}});  // the embedding is its own
  EXPECT_EQ(difffit, biases + embedding_ + 4 * width * blocks + 2 * width * 14);
  EXPECT_NEAR(Percent(difffit), 0.12, 0.01);
  for (const auto& [rank, share] : {std::pair{8, 0.17}, {16, 0.32}}) {
    const int64_t lora =
        Count({{"method.kind", "lora"}, {"method.rank", std::to_string(rank)}, {"method.targets", "to_q to_v"}});
    EXPECT_EQ(lora, blocks * 2 * rank * 2 * width);
    EXPECT_NEAR(Percent(lora + embedding_), share, 0.01) << rank;
  }
  const int64_t prompts = Count({{"method.kind", "vpt-deep"}, {"method.tokens", "84"}});
  EXPECT_EQ(prompts, blocks * 84 * width);
  EXPECT_NEAR(Percent(prompts + embedding_), 0.42, 0.01);
  const int64_t parallel = Count({{"method.kind", "adaptformer"}});
  EXPECT_EQ(parallel, blocks * (2 * width * 64 + 64 + width));
  EXPECT_NEAR(Percent(parallel + embedding_), 0.63, 0.01);
  EXPECT_EQ(Count({{"method.kind", "sequential-adapter"}, {"method.sublayers", "ff"}}), parallel);
}

// The paper's table of γ by depth, in millions: 28 → 25 .747, 28 → 14 .770, 28 → 1 .803; within 0.4 %, the rest being
// what the data set's classes differ by.
TEST_F(PaperSharesTest, DepthsOfFactorsCountAsInThePaper) {
  for (const auto& [depth, millions] : {std::pair{4, 0.747}, {15, 0.770}, {28, 0.803}}) {
    const int64_t found = Count(
        {{"method.kind", "difffit"}, {"method.gamma_blocks", std::to_string(depth)}, {"method.gamma_from", "last"}});
    EXPECT_NEAR(static_cast<double>(found) / 1e6, millions, 0.004 * millions) << depth;
  }
}

}  // namespace
}  // namespace loupe::worker::methods
