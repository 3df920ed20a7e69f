#include "worker/methods/bottleneck.h"

#include <cmath>
#include <functional>
#include <utility>

#include "worker/nn/kernel_functions.h"
#include "worker/nn/kernel_layers.h"

namespace loupe::worker::methods {
namespace {

torch::Tensor Activate(Activation activation, const torch::Tensor& x) {
  switch (activation) {
    case Activation::kRelu:
      return torch::relu(x);
    case Activation::kSigmoid:
      return torch::sigmoid(x);
    case Activation::kSilu:
      return torch::silu(x);
    case Activation::kIdentity:
      return x;
    case Activation::kGelu:
      return torch::gelu(x);
  }
  TORCH_CHECK(false, "activation ", static_cast<int>(activation), " has no function");
}

// torch.nn's default for Linear and Conv2d of `fan_in` inputs per output, weight and bias alike.
torch::Tensor DrawUniform(at::IntArrayRef shape, int64_t fan_in, const at::Generator& generator) {
  const double bound = 1.0 / std::sqrt(static_cast<double>(fan_in));
  return torch::empty(shape).uniform_(-bound, bound, generator);
}

// The initial values of one slot's layer, in torch.nn's orientation.
struct Layer {
  torch::Tensor weight;
  torch::Tensor bias;
};

Layer DrawLayer(at::IntArrayRef weight_shape, int64_t fan_in, const SlotInit& slot) {
  Layer layer;
  layer.weight = DrawUniform(weight_shape, fan_in, slot.generator);
  layer.bias = DrawUniform({weight_shape[0]}, fan_in, slot.generator);
  return layer;
}

// N(0, 0.01²) between ±2 standard deviations, by inverting its distribution function Φ(z) = (1 + erf(z/√2))/2.
torch::Tensor DrawNearZero(at::IntArrayRef shape, const at::Generator& generator) {
  constexpr double kDeviation = 0.01, kCut = 2;
  const double edge = std::erf(kCut / std::sqrt(2.0));
  return torch::empty(shape).uniform_(-edge, edge, generator).erfinv_().mul_(kDeviation * std::sqrt(2.0));
}

// Both layers of one slot, in torch.nn's orientation.
std::pair<Layer, Layer> DrawBoth(at::IntArrayRef down_shape, int64_t down_fan_in, at::IntArrayRef up_shape,
                                 int64_t up_fan_in, const SlotInit& slot) {
  if (slot.init == BottleneckInit::kNearZero) {
    Layer down{DrawNearZero(down_shape, slot.generator), torch::zeros({down_shape[0]})};
    Layer up{DrawNearZero(up_shape, slot.generator), torch::zeros({up_shape[0]})};
    return {std::move(down), std::move(up)};
  }
  Layer down = DrawLayer(down_shape, down_fan_in, slot);
  Layer up = DrawLayer(up_shape, up_fan_in, slot);
  if (slot.init == BottleneckInit::kLora) down.bias.zero_();
  if (slot.init != BottleneckInit::kTorch) {
    up.weight.zero_();
    up.bias.zero_();
  }
  return {std::move(down), std::move(up)};
}

// One layer of all slots, stacked.
struct SlotLayers {
  torch::Tensor weight;  // [K, …]
  torch::Tensor bias;    // [K, out]
};

struct BothLayers {
  SlotLayers down;
  SlotLayers up;
};

// Slot by slot, down then up: the order that a slot would be drawn in alone. `orient` turns a weight into its layout in
// memory.
BothLayers DrawAll(at::IntArrayRef down_shape, int64_t down_fan_in, at::IntArrayRef up_shape, int64_t up_fan_in,
                   std::vector<SlotInit>& slots, const std::function<torch::Tensor(const torch::Tensor&)>& orient,
                   torch::Device device) {
  std::vector<torch::Tensor> down_weights, down_biases, up_weights, up_biases;
  for (const SlotInit& slot : slots) {
    const auto [down, up] = DrawBoth(down_shape, down_fan_in, up_shape, up_fan_in, slot);
    down_weights.push_back(orient(down.weight));
    down_biases.push_back(down.bias);
    up_weights.push_back(orient(up.weight));
    up_biases.push_back(up.bias);
  }
  const auto leaf = [&](const std::vector<torch::Tensor>& values) {
    return torch::stack(values).to(device).set_requires_grad(true);
  };
  return {{leaf(down_weights), leaf(down_biases)}, {leaf(up_weights), leaf(up_biases)}};
}

// [K·B, …] seen as [K, B·T, d].
torch::Tensor PerSlot(const torch::Tensor& x, int64_t slots) { return x.reshape({slots, -1, x.size(-1)}); }

class TokenBottleneck : public Bottleneck {
 public:
  TokenBottleneck(const BottleneckOptions& options, std::vector<SlotInit>& slots, HiddenDropout dropout)
      : activation_(options.activation),
        dropout_(std::move(dropout)),
        scale_(torch::tensor(options.scales, torch::kFloat32).view({-1, 1, 1}).to(options.device)),
        layers_(DrawAll(
            {options.width, options.in}, options.in, {options.out, options.width}, options.width, slots,
            [](const torch::Tensor& weight) { return weight.t().contiguous(); }, options.device)) {
    parameters_ = {{"down.weight", layers_.down.weight, true},
                   {"down.bias", layers_.down.bias},
                   {"up.weight", layers_.up.weight, true},
                   {"up.bias", layers_.up.bias}};
  }

  torch::Tensor operator()(const torch::Tensor& x) const override {
    const torch::Tensor rows = PerSlot(x, scale_.size(0));
    auto hidden = Activate(activation_, torch::baddbmm(layers_.down.bias.unsqueeze(1), rows, layers_.down.weight));
    if (dropout_.share > 0 && dropout_.pass->training) hidden = hidden * Mask(hidden, x.size(0) / scale_.size(0));
    const auto y = torch::baddbmm(layers_.up.bias.unsqueeze(1), hidden, layers_.up.weight) * scale_;
    std::vector<int64_t> shape = x.sizes().vec();
    shape.back() = y.size(-1);
    return y.reshape(shape);
  }

 private:
  // Of `hidden`, [K, B·T, r].
  torch::Tensor Mask(const torch::Tensor& hidden, int64_t batch) const {
    std::vector<torch::Tensor> masks;
    for (int64_t k = 0; k < hidden.size(0); ++k) {
      const auto rows = hidden[k].view({batch, -1, hidden.size(2)});
      masks.push_back(dropout_.pass->Mask(rows, dropout_.share, dropout_.seeds[static_cast<size_t>(k)], dropout_.place,
                                          dropout_.slots.first + k));
    }
    return torch::stack(masks).view(hidden.sizes());
  }

  const Activation activation_;
  const HiddenDropout dropout_;
  const torch::Tensor scale_;  // [K, 1, 1]
  const BothLayers layers_;    // weights [K, in, r], [K, r, out]
};

class PictureBottleneck : public Bottleneck {
 public:
  PictureBottleneck(const BottleneckOptions& options, std::vector<SlotInit>& slots)
      : activation_(options.activation),
        norm_groups_(options.norm_groups),
        scale_(torch::tensor(options.scales, torch::kFloat32).view({-1, 1, 1, 1, 1}).to(options.device)),
        norm_weight_(torch::ones({scale_.size(0), options.in}, options.device).set_requires_grad(true)),
        norm_bias_(torch::zeros({scale_.size(0), options.in}, options.device).set_requires_grad(true)),
        layers_(DrawAll(
            {options.width, options.in, 3, 3}, options.in * 9, {options.out, options.width, 3, 3}, options.width * 9,
            slots, [](const torch::Tensor& weight) { return weight; }, options.device)) {
    parameters_ = {{"norm.weight", norm_weight_},        {"norm.bias", norm_bias_},
                   {"down.weight", layers_.down.weight}, {"down.bias", layers_.down.bias},
                   {"up.weight", layers_.up.weight},     {"up.bias", layers_.up.bias}};
  }

  torch::Tensor operator()(const torch::Tensor& x) const override {
    const int64_t k = scale_.size(0), b = x.size(0) / k, c = x.size(1), h = x.size(2), w = x.size(3);
    auto y = NormedThenSilu(x);
    // A picture of all slots' channels, so that slot k's filters see slot k's channels only.
    if (k > 1) y = y.view({k, b, c, h, w}).transpose(0, 1).reshape({b, k * c, h, w});
    y = Activate(activation_, GroupedConvolution(y, layers_.down, down_));
    y = GroupedConvolution(y, layers_.up, up_);
    y = y.view({b, k, -1, h, w}).transpose(0, 1) * scale_;
    return y.reshape({k * b, -1, h, w});
  }

 private:
  // torch.nn.GroupNorm's default.
  static constexpr double kNormEps = 1e-5;

  torch::Tensor NormedThenSilu(const torch::Tensor& x) const {
    const int64_t k = scale_.size(0);
    if (k == 1) {
      return nn::GroupNormThen(x, norm_groups_, norm_weight_.flatten(), norm_bias_.flatten(), kNormEps,
                               kernels::AfterNorm::kSilu);
    }
    const auto per_channel = [&](const torch::Tensor& v) { return v.view({k, 1, -1, 1, 1}); };
    const auto normed = torch::group_norm(x, norm_groups_, {}, {}, kNormEps).unflatten(0, {k, -1});
    return torch::silu(normed * per_channel(norm_weight_) + per_channel(norm_bias_)).flatten(0, 1);
  }

  static torch::Tensor GroupedConvolution(const torch::Tensor& x, const SlotLayers& layer,
                                          nn::ConvolutionKernel& of_one) {
    const torch::Tensor weight = layer.weight.flatten(0, 1), bias = layer.bias.flatten();
    if (layer.weight.size(0) == 1) return of_one(x, weight, bias);
    return torch::conv2d(x, weight, bias, /*stride=*/1, /*padding=*/1, /*dilation=*/1,
                         /*groups=*/layer.weight.size(0));
  }

  const Activation activation_;
  const int64_t norm_groups_;
  const torch::Tensor scale_;                    // [K, 1, 1, 1, 1]
  const torch::Tensor norm_weight_, norm_bias_;  // [K, in]
  const BothLayers layers_;                      // weights [K, r, in, 3, 3], [K, out, r, 3, 3]
  mutable nn::ConvolutionKernel down_, up_;      // where K is 1
};

}  // namespace

Activation ParseActivation(const std::string& name) {
  if (name == "relu") return Activation::kRelu;
  if (name == "sigmoid") return Activation::kSigmoid;
  if (name == "silu") return Activation::kSilu;
  if (name == "identity") return Activation::kIdentity;
  TORCH_CHECK(false, "method.activation '", name, "' is not known; expected relu, sigmoid, silu or identity");
}

std::unique_ptr<Bottleneck> MakeTokenBottleneck(const BottleneckOptions& options, std::vector<SlotInit>& slots,
                                                HiddenDropout dropout) {
  return std::make_unique<TokenBottleneck>(options, slots, std::move(dropout));
}

std::unique_ptr<Bottleneck> MakePictureBottleneck(const BottleneckOptions& options, std::vector<SlotInit>& slots) {
  return std::make_unique<PictureBottleneck>(options, slots);
}

}  // namespace loupe::worker::methods
