// Every method on a DiT and a DiffuSSM: it begins as the base, changes it, lets go of it, and merges into its weights.
#include <torch/torch.h>

#include <map>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/class_base.h"
#include "tests/testing/temp_folder.h"
#include "worker/base/base_model.h"
#include "worker/methods/method_registry.h"

namespace loupe::worker::methods {
namespace {

struct ClassMethodCase {
  std::string name;
  std::map<std::string, std::string> settings;
  bool merges = true;
  bool dit_only = false;  // a DiffuSSM has no such places
};

std::vector<ClassMethodCase> ClassMethodCases() {
  return {
      {"adapter",
       {{"method.kind", "adapter"},
        {"method.input", "SA_in"},
        {"method.output", "Trans_out"},
        {"method.width", "3"},
        {"method.init", "zero"}},
       /*merges=*/false},
      {"lora", {{"method.kind", "lora"}, {"method.rank", "2"}, {"method.targets", "linear"}}},
      {"attention", {{"method.kind", "lora"}, {"method.rank", "2"}}, true, /*dit_only=*/true},
      {"full", {{"method.kind", "full"}}},
      {"bitfit", {{"method.kind", "bitfit"}}},
      {"difffit", {{"method.kind", "difffit"}}, true, /*dit_only=*/true},
  };
}

settings::Settings ClassMethodSettings(std::map<std::string, std::string> values) {
  values.merge(std::map<std::string, std::string>{
      {"base", "b"}, {"scorer", "s"}, {"task.kind", "classes"}, {"task.images", "i"}, {"budget.steps", "1"}});
  auto settings = settings::Settings::Create(values);
  TORCH_CHECK(settings.ok(), settings.status().ToString());
  return *std::move(settings);
}

class ClassBaseMethodsTest : public ::testing::TestWithParam<io::BaseKind> {
 protected:
  void SetUp() override {
    torch::manual_seed(4);
    WriteClassBase(folder_ / "base", GetParam(), "{}", 3);
  }
  base::BaseModel Load() {
    auto base = base::LoadBase(folder_ / "base");
    TORCH_CHECK(base.ok(), base.status().ToString());
    return *std::move(base);
  }

  testing::TempFolder folder_;
};

TEST_P(ClassBaseMethodsTest, BeginChangeLetGoAndMerge) {
  torch::NoGradGuard no_grad;
  base::BaseModel base = Load(), merged = Load();
  const auto x = torch::randn({2, 4, 16, 16});
  const auto t = torch::tensor({5, 700}), classes = torch::tensor({{1}, {3}});
  const auto plain = base.denoiser->Forward(x, t, classes);
  for (const ClassMethodCase& test_case : ClassMethodCases()) {
    SCOPED_TRACE(test_case.name);
    if (test_case.dit_only && GetParam() != io::BaseKind::kDiT) continue;
    const auto method = MakeMethod(nn::SitesIn(base.denoiser->network(), &base.conditioner->network()),
                                   {{ClassMethodSettings(test_case.settings), 5}}, torch::kCPU);
    EXPECT_TRUE(torch::allclose(base.denoiser->Forward(x, t, classes), plain, 1e-5, 1e-6));
    for (const NamedParameter& parameter : method->parameters()) {
      torch::Tensor value = parameter.value;
      value.add_(0.05 * torch::randn_like(value));
    }
    const auto tuned = base.denoiser->Forward(x, t, classes);
    EXPECT_FALSE(torch::allclose(tuned, plain, 1e-3, 1e-3));
    if (test_case.merges) {
      BaseWeights weights;
      for (const auto& item : base.denoiser->network().named_parameters()) weights.denoiser[item.key()] = item.value();
      ASSERT_TRUE(method->Merge(0, weights).ok());
      for (auto& item : merged.denoiser->network().named_parameters()) {
        item.value().copy_(weights.denoiser.at(item.key()));
      }
      // Weights of float32, rounded once more than the method's own products.
      EXPECT_TRUE(torch::allclose(merged.denoiser->Forward(x, t, classes), tuned, 1e-3, 1e-4));
    }
    method->SetEnabled(false);
    EXPECT_TRUE(base.denoiser->Forward(x, t, classes).equal(plain));
  }
}

TEST_P(ClassBaseMethodsTest, PlacesThatAreNotThereAreNamed) {
  const base::BaseModel base = Load();
  const auto attach = [&](const std::map<std::string, std::string>& settings) -> std::string {
    try {
      MakeMethod(nn::SitesIn(base.denoiser->network()), {{ClassMethodSettings(settings), 5}}, torch::kCPU);
    } catch (const c10::Error& error) {
      return error.what_without_backtrace();
    }
    return "attached";
  };
  EXPECT_THAT(attach({{"method.kind", "adapter"},
                      {"method.input", "CA_out"},
                      {"method.output", "Trans_out"},
                      {"method.width", "3"}}),
              ::testing::HasSubstr("no block with the positions CA_out and Trans_out"));
  EXPECT_THAT(attach({{"method.kind", "lora"}, {"method.targets", "attn2"}}), ::testing::HasSubstr("'attn2' fits no"));
}

INSTANTIATE_TEST_SUITE_P(Kinds, ClassBaseMethodsTest, ::testing::Values(io::BaseKind::kDiT, io::BaseKind::kDiffuSSM),
                         [](const auto& info) { return std::string(io::BaseKindName(info.param)); });

}  // namespace
}  // namespace loupe::worker::methods
