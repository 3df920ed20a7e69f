// Hypernetworks: where they stand, initial values, packs, dropout, recomputed blocks, files. Their arithmetic is held
// to formulas in numpy in tests/parity.
#include "worker/methods/hypernetwork.h"

#include <ATen/CPUGeneratorImpl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "common/atomic_file.h"
#include "fmt/format.h"
#include "tests/worker/methods/small_network.h"
#include "worker/io/torch_archive.h"
#include "worker/methods/method_registry.h"
#include "worker/methods/tuned_file.h"
#include "worker/models/weights.h"
#include "worker/runtime/autocast_scope.h"
#include "worker/runtime/recompute.h"

namespace loupe::worker::methods {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using HyperValues = std::map<std::string, std::string>;

HyperValues Hyper(const HyperValues& more = {}) {
  HyperValues values = {{"method.kind", "hypernetwork"}};
  for (const auto& [key, value] : more) values[key] = value;
  return values;
}

double Furthest(const torch::Tensor& a, const torch::Tensor& b) { return (a - b).abs().max().item<double>(); }

// Contexts of 24 (text) and 64 (the picture's own stream) numbers.
class HypernetworkTest : public ::testing::Test {
 protected:
  HypernetworkTest() { at::set_num_threads(1); }

  std::unique_ptr<Method> Attach(const std::vector<HyperValues>& slots, uint64_t seed = 40) {
    std::vector<SlotOptions> options;
    for (const HyperValues& values : slots) options.push_back({MethodSettings(values), seed++});
    return MakeMethod(nn::SitesIn(*network_), options, torch::kCPU);
  }
  // Away from where they start, slot by slot the same as alone.
  static void Shake(Method& method) {
    const torch::NoGradGuard no_grad;
    for (const NamedParameter& parameter : method.parameters()) {
      auto generator = at::detail::createCPUGenerator(7);
      torch::Tensor value = parameter.value;
      value.add_(0.2 * torch::randn(value.sizes(), generator));
    }
  }
  torch::Tensor Forward(const SmallInputs& in) { return network_(in.x, in.time, in.context); }
  std::string Refusal(const HyperValues& values) {
    try {
      Attach({values});
    } catch (const c10::Error& error) {
      return error.what_without_backtrace();
    }
    return "";
  }

  SmallNetwork network_;
};

TEST_F(HypernetworkTest, ItStandsBeforeToKAndToVOfItsWidth) {
  const SmallInputs in = MakeInputs(2, 5);
  const torch::Tensor plain = Forward(in);
  const auto method = Attach({Hyper()});
  // Per width d: two networks of Linear(d, 2d) and Linear(2d, d).
  const auto size = [](int64_t d) { return 2 * (d * 2 * d + 2 * d + 2 * d * d + d); };
  EXPECT_EQ(method->ParametersOf(0), size(24) + size(64));
  // Drawn as small as theirs: next to nothing changes at first.
  EXPECT_LT(Furthest(Forward(in), plain), 0.05);
  EXPECT_GT(Furthest(Forward(in), plain), 0);
  {
    const MethodDisabled off(method.get());
    EXPECT_TRUE(Forward(in).equal(plain));
  }
  Shake(*method);
  EXPECT_GT(Furthest(Forward(in), plain), 1e-3);
  BaseWeights weights;
  EXPECT_THAT(std::string(method->Merge(0, weights).message()), HasSubstr("cannot be folded"));
}

TEST_F(HypernetworkTest, InitialValuesAreDrawnAsTheirs) {
  const auto deviation = [&](const HyperValues& more) {
    HyperValues values = Hyper({{"method.widths", "64"}, {"method.hidden_activation", "relu"}});
    for (const auto& [key, value] : more) values[key] = value;
    return Attach({values})->Export(0).at("hypernetwork.64.to_v.linear.0.weight").std().item<double>();
  };
  // Of 8,192 numbers: the deviation is known to a hundredth.
  EXPECT_NEAR(deviation({}), 0.01, 0.0003);
  EXPECT_NEAR(deviation({{"method.weight_init", "xavier-normal"}}), std::sqrt(2.0 / (64 + 128)), 0.003);
  EXPECT_NEAR(deviation({{"method.weight_init", "xavier-uniform"}}), std::sqrt(2.0 / (64 + 128)), 0.003);
  EXPECT_NEAR(deviation({{"method.weight_init", "kaiming-normal"}}), std::sqrt(2.0 / 64), 0.005);
  EXPECT_NEAR(deviation({{"method.weight_init", "kaiming-uniform"}}), std::sqrt(2.0 / 64), 0.005);
}

TEST_F(HypernetworkTest, PlacesAreNumberedAsInTheirSequence) {
  const files::HypernetworkShape shape{{1, 2, 0.5, 1}, "relu", false, true, {0, 0.3, 0, 0}};
  std::vector<std::string> places;
  for (const files::HypernetworkLayer& layer : files::LayersOf(shape, 10)) {
    places.push_back(fmt::format("{} {} {}", static_cast<int>(layer.kind), layer.in, layer.out));
  }
  EXPECT_THAT(places,
              ElementsAre("0 10 20", "1 20 20", "2 20 20", "3 20 20", "0 20 5", "1 5 5", "2 5 5", "0 5 10", "2 10 10"));
}

TEST_F(HypernetworkTest, SettingsThatMeanNothingAreRefused) {
  EXPECT_THAT(Refusal(Hyper({{"method.widths", "25"}})),
              HasSubstr("'25' is no width of a context of the base; it has 24, 64"));
  EXPECT_THAT(Refusal(Hyper({{"method.layer_structure", "2, 1"}})), HasSubstr("must begin and end with 1"));
  EXPECT_THAT(Refusal(Hyper({{"method.layer_structure", "1, x, 1"}})), HasSubstr("'x' is no number"));
  EXPECT_THAT(Refusal(Hyper({{"method.layer_structure", "1, 0, 1"}})), HasSubstr("0 is not above 0"));
}

TEST_F(HypernetworkTest, APackComputesAsSoloRunsDo) {
  const std::vector<HyperValues> slots = {
      Hyper(),
      {{"method.kind", "bitfit"}},
      Hyper(
          {{"method.layer_structure", "1 3 2 1"}, {"method.hidden_activation", "mish"}, {"method.layer_norm", "true"}}),
      Hyper({{"method.widths", "24"},
             {"method.hidden_activation", "swish"},
             {"method.activate_output", "true"},
             {"method.dropout", "0.4"}})};
  const auto run = [&](Method& method, const SmallInputs& in) {
    Shake(method);
    const TrainingPass pass(method, std::vector<int64_t>(static_cast<size_t>(method.slots()), 3));
    const auto output = Forward(in);
    output.square().flatten(1).mean(1).view({method.slots(), -1}).mean(1).sum().backward();
    return output.detach();
  };
  std::vector<torch::Tensor> outputs;
  std::vector<std::map<std::string, torch::Tensor>> gradients;
  SmallInputs all = MakeInputs(1, 1);
  std::vector<torch::Tensor> x, time, context;
  for (size_t k = 0; k < slots.size(); ++k) {
    const SmallInputs in = MakeInputs(2, 60 + k);
    x.push_back(in.x);
    time.push_back(in.time);
    context.push_back(in.context);
    const auto method = Attach({slots[k]}, 40 + k);
    outputs.push_back(run(*method, in));
    gradients.emplace_back();
    for (const NamedParameter& p : method->parameters()) gradients.back()[p.name] = p.value.grad()[0].clone();
  }
  all = {torch::cat(x), torch::cat(time), torch::cat(context)};
  const auto pack = Attach(slots, 40);
  const auto together = run(*pack, all);
  EXPECT_LT(Furthest(together, torch::cat(outputs)), 1e-4) << "rounding of products over more rows";
  for (const NamedParameter& p : pack->parameters()) {
    for (int64_t i = 0; i < p.count(); ++i) {
      const auto& expected = gradients[static_cast<size_t>(p.first_slot + i)].at(p.name);
      EXPECT_LT(Furthest(p.value.grad()[i], expected), 1e-3 * std::max(1e-2, expected.abs().max().item<double>()))
          << p.name;
    }
  }
}

TEST_F(HypernetworkTest, DropoutAndRecomputedBlocksGiveTheSameGradients) {
  const SmallInputs in = MakeInputs(2, 5);
  const auto method = Attach({Hyper({{"method.dropout", "0.5"}})});
  Shake(*method);
  std::vector<torch::Tensor> first;
  for (const bool recompute : {false, true}) {
    const TrainingPass pass(*method, {3});
    const runtime::RecomputeScope scope(recompute);
    const auto output = runtime::Recomputed(
        [&](const auto& x, const auto& context) { return network_(x, in.time, context); }, in.x, in.context);
    output.square().mean().backward();
    for (size_t i = 0; i < method->parameters().size(); ++i) {
      const auto& value = method->parameters()[i].value;
      if (!recompute) {
        first.push_back(value.grad().clone());
      } else {
        EXPECT_TRUE(value.grad().equal(first[i])) << method->parameters()[i].name;
      }
      value.mutable_grad().reset();
    }
  }
  const auto without = Forward(in);
  const TrainingPass pass(*method, {3});
  EXPECT_GT(Furthest(Forward(in), without), 1e-4);
}

TEST_F(HypernetworkTest, UnderAutocastALayerKeepsItsType) {
  const SmallInputs in = MakeInputs(2, 5);
  const auto method = Attach({Hyper({{"method.layer_norm", "true"}})});
  Shake(*method);
  const torch::Tensor exact = Forward(in);
  const runtime::AutocastScope scope({torch::kCPU, true, torch::kBFloat16});
  const torch::Tensor rounded = Forward(in);
  // Eight bits, over some twenty layers.
  EXPECT_LT(Furthest(rounded.to(torch::kFloat32), exact), 0.05 * exact.abs().max().item<double>());
}

class HypernetworkFilesTest : public HypernetworkTest {
 protected:
  HypernetworkFilesTest() : folder_(::testing::TempDir() + "hypernetwork_files_test/") {
    std::filesystem::create_directories(folder_);
  }
  ~HypernetworkFilesTest() override { std::filesystem::remove_all(folder_); }

  const std::string folder_;
};

TEST_F(HypernetworkFilesTest, APtFileAttachesAsItWasTrained) {
  const SmallInputs in = MakeInputs(2, 5);
  const settings::Settings settings = MethodSettings(Hyper({{"method.layer_structure", "1 2 2 1"},
                                                            {"method.hidden_activation", "relu"},
                                                            {"method.dropout", "0.3"},
                                                            {"method.layer_norm", "true"}}));
  torch::Tensor expected;
  files::HypernetworkFile written;
  {
    const auto method = MakeMethod(nn::SitesIn(*network_), {{settings, 1}}, torch::kCPU);
    Shake(*method);
    expected = Forward(in).detach();
    written = files::HypernetworkFileOf(method->Export(0), HypernetworkShapeOf(settings));
  }
  written.name = "mine";
  written.step = 12;
  ASSERT_TRUE(files::WriteHypernetwork(folder_ + "a.pt", written).ok());
  EXPECT_EQ(*RecogniseTunedFile(folder_ + "a.pt"), TunedFileKind::kHypernetwork);
  const auto read = files::ReadHypernetwork(folder_ + "a.pt");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->shape, written.shape);
  EXPECT_EQ(read->name, "mine");
  EXPECT_EQ(read->step, 12);
  const auto method = MakeHypernetworkOf(*read, nn::SitesIn(*network_), nn::SlotRange{}, torch::kCPU);
  EXPECT_TRUE(Forward(in).equal(expected));
}

// A file of their form by hand: what is missing from it has their loader's defaults.
TEST_F(HypernetworkFilesTest, FormerFilesAreReadAsTheirLoaderDoes) {
  const auto write = [&](const std::string& name, std::vector<io::TorchValue::Entry> settings, int64_t width,
                         const std::map<std::string, torch::Tensor>& state) {
    const models::TensorArrays arrays = models::ToArrays(state);
    io::TorchValue::Dictionary dictionary;
    for (const auto& [key, view] : arrays.views) dictionary.entries.push_back({{key}, {view}});
    settings.push_back({{width}, {io::TorchValue::Tuple{{{dictionary}, {dictionary}}}}});
    EXPECT_TRUE(io::WriteTorchValue(folder_ + name, {io::TorchValue::Dictionary{settings}}).ok());
    return files::ReadHypernetwork(folder_ + name);
  };
  const std::map<std::string, torch::Tensor> old = {{"linear1.weight", torch::ones({48, 24})},
                                                    {"linear1.bias", torch::ones({48})},
                                                    {"linear2.weight", torch::ones({24, 48})},
                                                    {"linear2.bias", torch::ones({24})}};
  const auto read = write("old.pt", {}, 24, old);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(read->widths.at(24)[1].contains("linear.1.weight"));
  EXPECT_TRUE(read->shape.activate_output) << "their loader's default where it is missing";
  const auto text = [](const char* value) { return io::TorchValue{std::string(value)}; };
  EXPECT_THAT(std::string(write("b.pt", {{text("activation_func"), text("cube")}}, 24, old).status().message()),
              HasSubstr("'cube' is not known"));
  EXPECT_THAT(std::string(write("c.pt", {{text("is_layer_norm"), {true}}}, 24, old).status().message()),
              HasSubstr("'linear.1.weight' is of another shape"));
  EXPECT_THAT(std::string(write("d.pt", {}, 32, old).status().message()), HasSubstr("expects [64, 32]"));
  const auto other = write("e.pt", {}, 24, old);
  ASSERT_TRUE(other.ok());
  files::HypernetworkFile wide = *other;
  wide.widths[768] = wide.widths[24];
  EXPECT_THROW(MakeHypernetworkOf(wide, nn::SitesIn(*network_), nn::SlotRange{}, torch::kCPU), c10::Error);
}

}  // namespace
}  // namespace loupe::worker::methods
