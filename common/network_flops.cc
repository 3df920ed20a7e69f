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

  void Convolution(double in, double out, double pixels) { convolutions_ += 9 * in * out * pixels; }

  void Resnet(double in, double out, double pixels) {
    Convolution(in, out, pixels);
    Convolution(out, out, pixels);
    if (in != out) convolutions_ += in * out * pixels;
    condition_ += embedding_ * out;
  }

  // Transformer blocks between their 1×1 projections: self-attention, cross-attention, GEGLU feed-forward of width 4d.
  void Transformer(double d, double tokens, double blocks) {
    dense_ += 2 * d * d * tokens + blocks * (4 + 2 + 12) * d * d * tokens;
    condition_ += blocks * 2 * context_width_ * d * context_tokens_;
    attention_ += blocks * 2 * tokens * (tokens + context_tokens_) * d;
  }

  NetworkWork Work() const {
    return {{"convolution", convolutions_}, {"dense", dense_}, {"attention", attention_}, {"condition", condition_}};
  }

 private:
  const double embedding_, context_width_, context_tokens_;
  double convolutions_ = 0, dense_ = 0, attention_ = 0, condition_ = 0;
};

// Sinusoids of 256 through an MLP of the stream's width.
double TimeEmbedding(double width) { return 256 * width + width * width; }

}  // namespace

double TotalMultiplyAdds(const NetworkWork& work) {
  double total = 0;
  for (const LayerWork& layer : work) total += layer.multiply_adds;
  return total;
}

NetworkWork UNetWork(const UNetShape& shape) {
  UNetCount count(shape);
  double pixels = shape.side * shape.side, width = shape.levels.front().width;
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
  const double ends = tokens * d * shape.patch * shape.patch * (shape.in_channels + shape.out_channels);
  return {{"dense", shape.layers * 12 * tokens * d * d},
          {"attention", shape.layers * 2 * tokens * tokens * d},
          {"condition", shape.layers * 6 * d * d + 2 * d * d + TimeEmbedding(d)},
          {"ends", ends}};
}

NetworkWork DiffuSSMWork(const DiffuSSMShape& shape) {
  const double d = shape.width, places = shape.side * shape.side, kept = places / shape.hourglass;
  const double transforms = 2 * 2 * 2.5 * (2 * places) * std::log2(2 * places) / 2;
  return {{"dense", shape.layers * (13 * kept + places) * d * d},
          {"state space", shape.layers * transforms * d},
          {"condition", shape.layers * (shape.gated ? 3 : 2) * d * d + 2 * d * d + TimeEmbedding(d)},
          {"ends", places * d * (shape.in_channels + shape.out_channels)}};
}

}  // namespace loupe
