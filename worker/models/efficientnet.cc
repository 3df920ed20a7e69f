#include "worker/models/efficientnet.h"

#include <torch/nn/modules/container/modulelist.h>
#include <torch/utils.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "common/sha256.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/io/json_config.h"
#include "worker/models/frozen_norm.h"

namespace loupe::worker::models {
namespace {

constexpr int64_t kStem = 32;

struct StageShape {
  int64_t repeats, kernel, stride, expand, out;
};
// The paper's table 1, B0.
constexpr std::array<StageShape, 7> kStages = {{{1, 3, 1, 1, 16},
                                                {2, 3, 2, 6, 24},
                                                {2, 5, 2, 6, 40},
                                                {3, 3, 2, 6, 80},
                                                {3, 5, 1, 6, 112},
                                                {4, 5, 2, 6, 192},
                                                {1, 3, 1, 6, 320}}};

// Scaled to a multiple of 8 that is no more than a tenth below.
int64_t ScaledChannels(int64_t channels, double width) {
  if (width == 1) return channels;
  constexpr int64_t kMultiple = 8;
  const double scaled = static_cast<double>(channels) * width;
  int64_t rounded =
      std::max(kMultiple, static_cast<int64_t>(scaled + static_cast<double>(kMultiple) / 2) / kMultiple * kMultiple);
  if (static_cast<double>(rounded) < 0.9 * scaled) rounded += kMultiple;
  return rounded;
}

// TensorFlow's SAME padding: as many places as ⌈side/stride⌉, what is missing of it at the ends, the odd one last.
struct SameConvImpl : torch::nn::Module {
  SameConvImpl(int64_t in, int64_t out, int64_t kernel, int64_t stride = 1, int64_t groups = 1)
      : kernel_(kernel), stride_(stride), groups_(groups) {
    register_parameter("weight", torch::empty({out, in / groups, kernel, kernel}, torch::kFloat32), false);
  }
  torch::Tensor forward(torch::Tensor x) {
    const auto missing = [&](int64_t side) {
      return std::max<int64_t>(0, ((side + stride_ - 1) / stride_ - 1) * stride_ + kernel_ - side);
    };
    const int64_t height = missing(x.size(2)), width = missing(x.size(3));
    if (height > 0 || width > 0) {
      x = torch::constant_pad_nd(x, {width / 2, width - width / 2, height / 2, height - height / 2});
    }
    const std::array<int64_t, 2> strides = {stride_, stride_}, padding = {0, 0}, dilation = {1, 1};
    return torch::conv2d(x, named_parameters()["weight"], /*bias=*/{}, at::IntArrayRef(strides),
                         at::IntArrayRef(padding), at::IntArrayRef(dilation), groups_);
  }
  int64_t kernel_, stride_, groups_;
};

torch::Tensor Convolved(const std::shared_ptr<torch::nn::Module>& conv, const std::shared_ptr<torch::nn::Module>& norm,
                        const torch::Tensor& x) {
  return norm->as<FrozenNormImpl>()->forward(conv->as<SameConvImpl>()->forward(x));
}

}  // namespace

absl::StatusOr<EfficientNetConfig> EfficientNetConfig::Read(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(io::JsonConfig json, io::JsonConfig::Read(path));
  if (json.String("model_type", "") != "efficientnet-lite") json.Refuse("model_type", "\"efficientnet-lite\"");
  EfficientNetConfig config;
  config.width = json.Number("width_coefficient");
  config.depth = json.Number("depth_coefficient");
  config.image_size = json.Int("image_size");
  config.classes = json.Int("num_classes", config.classes);
  constexpr double kMostScale = 16;
  if (!(config.width > 0 && config.width <= kMostScale)) json.Refuse("width_coefficient", "above 0, at most 16");
  if (!(config.depth > 0 && config.depth <= kMostScale)) json.Refuse("depth_coefficient", "above 0, at most 16");
  if (config.image_size < 32) json.Refuse("image_size", "at least 32");
  if (config.classes < 1) json.Refuse("num_classes", "at least 1");
  LOUPE_RETURN_IF_ERROR(json.FinishStrictly());
  return config;
}

// An inverted bottleneck: channels times `expand`, a convolution of each channel, and back (arXiv 1801.04381).
struct EfficientNetImpl::Block : torch::nn::Module {
  Block(int64_t in, const StageShape& shape, int64_t out, int64_t stride) : adds_(stride == 1 && in == out) {
    const int64_t inner = in * shape.expand;
    if (shape.expand != 1) {
      expand_ = register_module("_expand_conv", std::make_shared<SameConvImpl>(in, inner, 1));
      expand_norm_ = register_module("_bn0", std::make_shared<FrozenNormImpl>(inner));
    }
    depthwise_ =
        register_module("_depthwise_conv", std::make_shared<SameConvImpl>(inner, inner, shape.kernel, stride, inner));
    depthwise_norm_ = register_module("_bn1", std::make_shared<FrozenNormImpl>(inner));
    project_ = register_module("_project_conv", std::make_shared<SameConvImpl>(inner, out, 1));
    project_norm_ = register_module("_bn2", std::make_shared<FrozenNormImpl>(out));
  }

  torch::Tensor forward(const torch::Tensor& x) {
    torch::Tensor y = x;
    if (expand_ != nullptr) y = torch::relu6(Convolved(expand_, expand_norm_, y));
    y = torch::relu6(Convolved(depthwise_, depthwise_norm_, y));
    y = Convolved(project_, project_norm_, y);
    return adds_ ? y + x : y;
  }

  const bool adds_;
  std::shared_ptr<torch::nn::Module> expand_, expand_norm_, depthwise_, depthwise_norm_, project_, project_norm_;
};

EfficientNetImpl::EfficientNetImpl(const EfficientNetConfig& config) {
  stem_ = register_module("_conv_stem", std::make_shared<SameConvImpl>(3, kStem, 3, 2));
  stem_norm_ = register_module("_bn0", std::make_shared<FrozenNormImpl>(kStem));
  torch::nn::ModuleList numbers;
  int64_t in = kStem;
  for (size_t stage = 0; stage < kStages.size(); ++stage) {
    const StageShape& shape = kStages[stage];
    const bool fixed = stage == 0 || stage + 1 == kStages.size();
    const int64_t out = ScaledChannels(shape.out, config.width);
    const int64_t repeats =
        fixed ? shape.repeats : static_cast<int64_t>(std::ceil(static_cast<double>(shape.repeats) * config.depth));
    for (int64_t i = 0; i < repeats; ++i) {
      blocks_.push_back(std::make_shared<Block>(in, shape, out, i == 0 ? shape.stride : 1));
      numbers->push_back(blocks_.back());
      in = out;
    }
    stage_ends_.push_back(blocks_.size() - 1);
  }
  register_module("_blocks", numbers);
  head_ = register_module("_conv_head", std::make_shared<SameConvImpl>(in, kFeatures, 1));
  head_norm_ = register_module("_bn1", std::make_shared<FrozenNormImpl>(kFeatures));
  classifier_ = register_module("_fc", nn::Linear(kFeatures, config.classes));
}

torch::Tensor EfficientNetImpl::Stem(const torch::Tensor& pixels) {
  return torch::relu6(Convolved(stem_, stem_norm_, pixels));
}

torch::Tensor EfficientNetImpl::forward(const torch::Tensor& pixels) {
  torch::Tensor x = Stem(pixels);
  for (const auto& block : blocks_) x = block->forward(x);
  return torch::relu6(Convolved(head_, head_norm_, x)).mean({2, 3});
}

std::vector<torch::Tensor> EfficientNetImpl::Stages(const torch::Tensor& pixels) {
  std::vector<torch::Tensor> stages;
  torch::Tensor x = Stem(pixels);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    x = blocks_[i]->forward(x);
    if (i == stage_ends_[stages.size()]) stages.push_back(x.flatten(2).transpose(1, 2));
  }
  return stages;
}

torch::Tensor EfficientNetScorer::EmbedImages(const std::vector<io::Image>& images) {
  torch::NoGradGuard no_grad;
  const auto options = network->parameters().front().options();
  return EmbedInParts(images, kPart, folder + ": what the EfficientNet gives",
                      [&](std::span<const io::Image> part) { return network(preprocessing.Apply(part).to(options)); });
}

absl::StatusOr<EfficientNetScorer> LoadEfficientNetScorer(const std::string& folder, const LoadOptions& options) {
  LOUPE_ASSIGN_OR_RETURN(const auto config, EfficientNetConfig::Read(folder + "/config.json"));
  LOUPE_ASSIGN_OR_RETURN(const auto preprocessing,
                         PicturePreprocessing::Read(folder, PicturePreprocessing::Defaults::kViT));
  LOUPE_RETURN_IF_ERROR(preprocessing.CheckFits(folder, config.image_size));
  EfficientNetScorer scorer{folder, EfficientNet(config), preprocessing};
  WeightOptions rules{.dtype = options.dtype, .device = options.device};
  rules.passed_over = {"num_batches_tracked"};  // a counter of training
  LOUPE_ASSIGN_OR_RETURN(const io::WeightFiles weights, io::WeightFiles::Open(folder, "model"));
  LOUPE_RETURN_IF_ERROR(LoadWeights(*scorer.network, weights, rules));
  scorer.network->eval();
  return scorer;
}

}  // namespace loupe::worker::models
