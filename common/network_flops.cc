#include "common/network_flops.h"

#include <cmath>

namespace loupe {
namespace {

// Adds up the layers of a UNet as the forward pass meets them.
class UNetCount {
 public:
  explicit UNetCount(const UNetShape& shape)
      : embedding_(4 * shape.levels.front().width),
        context_width_(shape.context_width),
        context_tokens_(shape.context_tokens) {}

  void Convolution(double in, double out, double pixels) { Add(convolutions_, 9 * in * out, pixels); }

  void Resnet(double in, double out, double pixels) {
    Convolution(in, out, pixels);
    Convolution(out, out, pixels);
    if (in != out) Add(convolutions_, in * out, pixels);
    Add(condition_, embedding_ * out, 1);
  }

  // Transformer blocks between their 1×1 projections: self-attention, cross-attention, GEGLU feed-forward of width 4d.
  void Transformer(double d, double tokens, double blocks) {
    Add(dense_, 2 * d * d + blocks * (4 + 2 + 12) * d * d, tokens);
    Add(condition_, blocks * 2 * context_width_ * d, context_tokens_);
    attention_.multiply_adds += blocks * 2 * tokens * (tokens + context_tokens_) * d;
  }

  // An MLP to the embedding's width; next to nothing is computed in it.
  void Embedding(double in) { Add(condition_, in * embedding_ + embedding_ * embedding_, 0); }

  NetworkWork Work() const { return {convolutions_, dense_, attention_, condition_}; }

 private:
  static void Add(LayerWork& layer, double weights, double times) {
    layer.weights += weights;
    layer.multiply_adds += weights * times;
  }

  const double embedding_, context_width_, context_tokens_;
  LayerWork convolutions_{"convolution"}, dense_{"dense"}, attention_{"attention"}, condition_{"condition"};
};

// Sinusoids of 256 through an MLP of the stream's width.
double TimeEmbedding(double width) { return 256 * width + width * width; }

}  // namespace

double TotalMultiplyAdds(const NetworkWork& work) {
  double total = 0;
  for (const LayerWork& layer : work) total += layer.multiply_adds;
  return total;
}

double TotalWeights(const NetworkWork& work) {
  double total = 0;
  for (const LayerWork& layer : work) total += layer.weights;
  return total;
}

NetworkWork UNetWork(const UNetShape& shape) {
  UNetCount count(shape);
  double pixels = shape.side * shape.side, width = shape.levels.front().width;
  count.Embedding(width);
  if (shape.added_width > 0) count.Embedding(shape.added_width);
  count.Convolution(shape.in_channels, width, pixels);
  std::vector<double> skips = {width};
  for (size_t i = 0; i < shape.levels.size(); ++i) {
    const UNetLevelShape& level = shape.levels[i];
    for (int64_t layer = 0; layer < level.resnets; ++layer) {
      count.Resnet(width, level.width, pixels);
      width = level.width;
      if (level.down_attention) count.Transformer(width, pixels, static_cast<double>(level.transformer_layers));
      skips.push_back(width);
    }
    if (i + 1 < shape.levels.size()) {
      pixels /= 4;
      count.Convolution(width, width, pixels);
      skips.push_back(width);
    }
  }
  count.Resnet(width, width, pixels);
  count.Transformer(width, pixels, static_cast<double>(shape.levels.back().transformer_layers));
  count.Resnet(width, width, pixels);
  for (size_t i = shape.levels.size(); i-- > 0;) {
    const UNetLevelShape& level = shape.levels[i];
    for (int64_t layer = 0; layer <= level.resnets; ++layer) {
      count.Resnet(width + skips.back(), level.width, pixels);
      skips.pop_back();
      width = level.width;
      if (level.up_attention) count.Transformer(width, pixels, static_cast<double>(level.transformer_layers));
    }
    if (i > 0) {
      pixels *= 4;
      count.Convolution(width, width, pixels);
    }
  }
  count.Convolution(width, shape.out_channels, pixels);
  return count.Work();
}

NetworkWork DiTWork(const DiTShape& shape) {
  const double d = shape.width, tokens = (shape.side / shape.patch) * (shape.side / shape.patch);
  const double ends = d * shape.patch * shape.patch * (shape.in_channels + shape.out_channels);
  const double dense = shape.layers * 12 * d * d;
  const double condition = shape.layers * 6 * d * d + 2 * d * d + TimeEmbedding(d);
  return {{"dense", dense * tokens, dense},
          {"attention", shape.layers * 2 * tokens * tokens * d, 0},
          {"condition", condition, condition + (shape.classes + 1) * d},
          {"ends", ends * tokens, ends}};
}

NetworkWork DiffuSSMWork(const DiffuSSMShape& shape) {
  const double d = shape.width, places = shape.side * shape.side, kept = places / shape.hourglass;
  const double transforms = 3 * 2.5 * (2 * places) * std::log2(2 * places) / 2;
  const double condition = shape.layers * (shape.gated ? 3 : 2) * d * d + 2 * d * d + TimeEmbedding(d);
  const double ends = d * (shape.in_channels + shape.out_channels);
  return {{"dense", shape.layers * (13 * kept + places) * d * d, shape.layers * (13 + shape.hourglass) * d * d},
          {"state space", shape.layers * transforms * d, shape.layers * 2 * d * (2 + 2 * shape.states)},
          {"condition", condition, condition + (shape.classes + 1) * d},
          {"ends", ends * places, ends * shape.hourglass}};
}

}  // namespace loupe
