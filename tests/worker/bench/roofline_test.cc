// The roofline's tables: what is counted in a step is what the networks' shapes say, and the rows are the step.
#include "worker/bench/roofline.h"

#include <cmath>
#include <fstream>
#include <map>
#include <string>

#include "common/network_flops.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/testing/class_base.h"
#include "tests/testing/temp_folder.h"
#include "worker/base/base_model.h"
#include "worker/bench/base_steps.h"
#include "worker/runtime/device.h"

namespace loupe::worker::bench {
namespace {

using ::testing::HasSubstr;

constexpr double kBatch = 2;

const RooflineRequest kRequest{.batch = 2, .repeats = 1, .device = "cpu", .threads = 1};

// Forward operations of each kind, for one row.
using CountedKinds = std::map<std::string, double>;

const RooflineSection& SectionOf(const std::vector<RooflineSection>& sections, const std::string& name) {
  for (const RooflineSection& section : sections) {
    if (section.name == name) return section;
  }
  ADD_FAILURE() << "no section " << name;
  return sections.front();
}

CountedKinds ForwardOf(const RooflineSection& section, double rows) {
  CountedKinds kinds;
  for (const RooflineRow& row : section.parts) kinds[row.kind] = row.forward_flops / rows;
  return kinds;
}

// 2 · multiply-adds.
CountedKinds Expected(const NetworkWork& work) {
  CountedKinds kinds;
  for (const LayerWork& layer : work) kinds[std::string(layer.kind)] = 2 * layer.multiply_adds;
  return kinds;
}

void ExpectRowsAreTheStep(const RooflineSection& section) {
  double seconds = 0;
  for (const RooflineRow& row : section.parts) {
    EXPECT_GE(row.seconds(), 0) << section.name << ": " << row.kind;
    EXPECT_GE(row.bytes, 0) << section.name << ": " << row.kind;
    seconds += row.seconds();
  }
  EXPECT_NEAR(seconds, section.seconds, 1e-9 * section.seconds) << section.name;
  EXPECT_EQ(section.parts.back().kind, "other") << section.name;
  EXPECT_EQ(section.parts.back().flops(), 0) << section.name;
}

class RooflineTest : public ::testing::Test {
 protected:
  std::vector<RooflineSection> Watch(const std::string& folder, const RooflineRequest& request = kRequest) {
    const auto device = runtime::PrepareDevice("cpu", 1);
    auto base = base::LoadBase(folder);
    EXPECT_TRUE(device.ok() && base.ok()) << base.status();
    tokens_ = static_cast<double>(base->conditioner->Ids({""}).size(1));
    return WatchBase(*base, request, StepClock(*device));
  }

  testing::TempFolder folder_;
  double tokens_ = 0;  // of a prompt
};

TEST_F(RooflineTest, AUNetCountsWhatItsShapeSays) {
  const auto sections = Watch("configs/bases/emoji-sd");
  ASSERT_EQ(sections.size(), 4);
  for (const RooflineSection& section : sections) ExpectRowsAreTheStep(section);

  const auto config = models::UNet2DConditionConfig::Read("configs/bases/emoji-sd/unet/config.json");
  UNetShape shape{.side = static_cast<double>(config->sample_size),
                  .context_width = static_cast<double>(config->cross_attention_dim),
                  .context_tokens = tokens_};
  for (const models::UNetLevel& level : config->levels) {
    shape.levels.push_back({.width = static_cast<double>(level.channels),
                            .resnets = level.resnets,
                            .transformer_layers = level.transformer_layers,
                            .down_attention = level.down_attention,
                            .up_attention = level.up_attention});
  }
  const CountedKinds expected = Expected(UNetWork(shape));
  // What guidance's halves share on a CPU, of which half a row's share is computed for each: all before the first look
  // at the prompt, which is the first level's conv_in, a residual block, proj_in and self-attention with its four
  // layers.
  const double width = shape.levels.front().width, pixels = shape.side * shape.side;
  const double shared_dense =
      2 * pixels * width * (9 * static_cast<double>(config->in_channels) + 18 * width + 5 * width);
  const double shared_attention = 4 * pixels * pixels * width;
  for (const auto& [section, rows] : {std::pair("training step", kBatch), {"sampling step", 2 * kBatch}}) {
    CountedKinds found = ForwardOf(SectionOf(sections, section), rows);
    if (rows != kBatch) {
      found["convolution 3×3"] += shared_dense / 2;
      found["attention"] += shared_attention / 2;
    }
    // The transformers' projections are 1×1 convolutions in this base's files and dense in the count.
    EXPECT_DOUBLE_EQ(found["convolution 3×3"] + found["convolution 1×1"] + found["attention's linear layers"] +
                         found["feed-forward"],
                     expected.at("convolution") + expected.at("dense"))
        << section;
    EXPECT_DOUBLE_EQ(found["attention"], expected.at("attention")) << section;
  }
  // Frozen weights: with the backward pass of the first layers left out, input gradients cost less than the forward
  // pass; attention's costs two and a half times as much.
  double forward = 0, backward = 0;
  for (const RooflineRow& row : SectionOf(sections, "training step").parts) {
    if (row.kind == "attention") {
      EXPECT_LT(row.backward_flops, 2.5 * row.forward_flops);
      EXPECT_GT(row.backward_flops, 1.5 * row.forward_flops);
    } else if (row.kind != "method") {
      forward += row.forward_flops;
      backward += row.backward_flops;
    } else {
      EXPECT_GT(row.backward_flops, row.forward_flops);
    }
  }
  EXPECT_LT(backward, forward);
  EXPECT_GT(backward, 0.7 * forward);
}

// Layers are known by their weights, of which passes in 16 bits have copies.
TEST_F(RooflineTest, A16BitStepsWorkIsThatOfFloat32) {
  WriteClassBase(folder_ / "dit", io::BaseKind::kDiT, R"({"0": "cat", "1": "dog"})", 2);
  RooflineRequest request = kRequest;
  request.sample = false;
  const auto exact = ForwardOf(Watch(folder_ / "dit", request).front(), kBatch);
  request.precision = "bf16";
  const auto half = ForwardOf(Watch(folder_ / "dit", request).front(), kBatch);
  for (const char* kind : {"attention's linear layers", "feed-forward", "condition", "ends"}) {
    EXPECT_GT(exact.at(kind), 0) << kind;
    EXPECT_DOUBLE_EQ(half.at(kind), exact.at(kind)) << kind;
  }
}

TEST_F(RooflineTest, ADiTCountsWhatItsShapeSays) {
  WriteClassBase(folder_ / "dit", io::BaseKind::kDiT, R"({"0": "cat", "1": "dog"})", 2);
  const auto sections = Watch(folder_ / "dit");
  ASSERT_EQ(sections.size(), 3);
  for (const RooflineSection& section : sections) ExpectRowsAreTheStep(section);
  const CountedKinds expected = Expected(DiTWork({.side = 16, .patch = 2, .width = 16, .layers = 2, .classes = 2}));
  CountedKinds found = ForwardOf(SectionOf(sections, "training step"), kBatch);
  EXPECT_DOUBLE_EQ(found["attention's linear layers"] + found["feed-forward"], expected.at("dense"));
  EXPECT_DOUBLE_EQ(found["attention"], expected.at("attention"));
  EXPECT_DOUBLE_EQ(found["condition"], expected.at("condition"));
  EXPECT_DOUBLE_EQ(found["ends"], expected.at("ends"));
}

TEST_F(RooflineTest, ADiffuSSMCountsWhatItsShapeSays) {
  WriteClassBase(folder_ / "ssm", io::BaseKind::kDiffuSSM, R"({"0": "cat", "1": "dog"})", 2);
  const auto sections = Watch(folder_ / "ssm");
  ASSERT_EQ(sections.size(), 3);
  for (const RooflineSection& section : sections) ExpectRowsAreTheStep(section);
  const CountedKinds expected =
      Expected(DiffuSSMWork({.side = 16, .hourglass = 2, .width = 16, .layers = 2, .states = 4, .classes = 2}));
  CountedKinds found = ForwardOf(SectionOf(sections, "training step"), kBatch);
  EXPECT_DOUBLE_EQ(found["dense layers"], expected.at("dense"));
  EXPECT_DOUBLE_EQ(found["condition"], expected.at("condition"));
  EXPECT_DOUBLE_EQ(found["ends"], expected.at("ends"));
  // Without the kernels, which the step before has left.
  EXPECT_DOUBLE_EQ(found["state space"], expected.at("state space"));
}

TEST_F(RooflineTest, TablesAndJsonSayTheSame) {
  WriteClassBase(folder_ / "dit", io::BaseKind::kDiT, R"({"0": "cat", "1": "dog"})", 2);
  RooflineRequest request = kRequest;
  request.base = folder_ / "dit";
  request.sample = false;
  const auto roofline = MeasureRoofline(request);
  ASSERT_TRUE(roofline.ok()) << roofline.status();
  const auto json = nlohmann::json::parse(RooflineJson(*roofline));
  EXPECT_EQ(json.at("network"), "DiT");
  EXPECT_EQ(json.at("clock"), "processor");
  ASSERT_EQ(json.at("peaks").size(), 1);
  EXPECT_GT(json.at("peaks")[0].at("triad_bytes"), 0);
  ASSERT_EQ(json.at("sections").size(), 1);
  const auto& section = json.at("sections")[0];
  const std::string table = RooflineMarkdown(*roofline);
  double share = 0;
  for (const auto& part : section.at("parts")) {
    share += part.at("share").get<double>();
    EXPECT_THAT(table, HasSubstr("\n| " + part.at("kind").get<std::string>() + " | "));
  }
  EXPECT_NEAR(share, 1, 1e-9);
}

TEST_F(RooflineTest, TheRoofIsTheSlowerOfPeakAndMemory) {
  const MachinePeak peak{
      .precision = "float32", .product_flops = 90, .convolution_flops = 100, .copy_bytes = 10, .triad_bytes = 8};
  EXPECT_DOUBLE_EQ(ShareOfRoof({.forward_seconds = 1, .backward_seconds = 3, .forward_flops = 200, .bytes = 4}, peak),
                   0.5);
  EXPECT_DOUBLE_EQ(ShareOfRoof({.forward_seconds = 4, .forward_flops = 200, .bytes = 30}, peak), 0.75);
  EXPECT_DOUBLE_EQ(ShareOfRoof({.forward_seconds = 4, .bytes = 10}, peak), 0.25);
  EXPECT_EQ(ShareOfRoof({.forward_seconds = 1}, peak), 0);
}

TEST_F(RooflineTest, WhatDoesNotFitIsSaid) {
  RooflineRequest request = kRequest;
  request.base = folder_ / "nowhere";
  EXPECT_THAT(std::string(MeasureRoofline(request).status().message()), HasSubstr("nowhere"));
  request.precision = "int8";
  EXPECT_THAT(std::string(MeasureRoofline(request).status().message()), HasSubstr("'int8': expected float32 or bf16"));
  request.precision = "float32";
  request.device = "tpu";
  EXPECT_THAT(std::string(MeasureRoofline(request).status().message()), HasSubstr("'tpu'"));
}

}  // namespace
}  // namespace loupe::worker::bench
