#include "worker/nn/kernel_layers.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/custom_class.h>

#include <optional>
#include <utility>
#include <vector>

#include "worker/kernels/packed_gemm.h"
#include "worker/nn/kernels_take.h"
#include "worker/nn/recorded.h"
#include "worker/nn/winograd_convolution.h"

namespace loupe::worker::nn {

namespace {

// Beyond this size a weight's copies would cost more memory than the time is worth, and LibTorch's own kernels come
// near the processor's peak.
constexpr int64_t kMostLinearWeights = int64_t{1} << 18;
// Rows that one thread should have at least.
constexpr int64_t kRowGrain = 48;

// Rows are shared out among the threads.
torch::Tensor Multiplied(const torch::Tensor& x, const kernels::PackedMatrix& matrix, const torch::Tensor& bias) {
  const torch::Tensor rows = x.contiguous();
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = matrix.n();
  torch::Tensor y = torch::empty(shape, x.options());
  const float* const from = rows.const_data_ptr<float>();
  const float* const add = bias.defined() ? bias.const_data_ptr<float>() : nullptr;
  float* const to = y.mutable_data_ptr<float>();
  at::parallel_for(0, rows.numel() / matrix.k(), kRowGrain, [&](int64_t first, int64_t end) {
    kernels::Multiply(from + first * matrix.k(), matrix.k(), end - first, matrix, add, to + first * matrix.n(),
                      matrix.n());
  });
  return y;
}

torch::Tensor Multiplied(const torch::Tensor& x, const kernels::WinogradWeights& weights, const torch::Tensor& bias) {
  return Convolved(x, weights, bias);
}

}  // namespace

// What layouts of any kind share: the weight that they were made from.
class OfOneWeight : public torch::CustomClassHolder {
 public:
  explicit OfOneWeight(const torch::Tensor& weight) : weight_(weight.detach()) {}

  const torch::Tensor& weight() const { return weight_; }

 private:
  const torch::Tensor weight_;
};

class LinearLayouts : public OfOneWeight {
 public:
  static constexpr const char *kName = "loupe::linear", *kBackwardName = "loupe::linear_backward";
  static bool Takes(const torch::Tensor& weight) {
    return weight.is_cpu() && weight.scalar_type() == torch::kFloat32 && !weight.requires_grad() &&
           weight.numel() > 0 && weight.numel() <= kMostLinearWeights;
  }
  static torch::Tensor LibTorchs(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias) {
    return torch::linear(x, weight, bias);
  }
  static torch::Tensor BiasGradient(const torch::Tensor& d_y) { return d_y.flatten(0, -2).sum(0); }

  explicit LinearLayouts(const torch::Tensor& weight)
      : OfOneWeight(weight), forward_(Pack(weight, weight.size(1), weight.size(0), 1, 0)) {}
  const kernels::PackedMatrix& forward() const { return forward_; }
  // Made when a gradient first comes.
  const kernels::PackedMatrix& backward() {
    std::call_once(once_, [&] { backward_ = Pack(weight(), weight().size(0), weight().size(1), 0, 1); });
    return backward_;
  }

 private:
  // [k, n], where k is the weight's dimension `rows` and n its dimension `columns`.
  static kernels::PackedMatrix Pack(const torch::Tensor& weight, int64_t k, int64_t n, int rows, int columns) {
    return {weight.const_data_ptr<float>(), k, n, weight.stride(rows), weight.stride(columns)};
  }

  const kernels::PackedMatrix forward_;
  std::once_flag once_;
  kernels::PackedMatrix backward_;
};

class ConvolutionLayouts : public OfOneWeight {
 public:
  static constexpr const char *kName = "loupe::convolution", *kBackwardName = "loupe::convolution_backward";
  static bool Takes(const torch::Tensor& weight) { return WinogradTakes(weight); }
  static torch::Tensor LibTorchs(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias) {
    return torch::conv2d(x, weight, bias, /*stride=*/1, /*padding=*/1);
  }
  static torch::Tensor WeightGradient(const torch::Tensor& x, const torch::Tensor& d_y) {
    return ConvolutionWeightGradient(x, d_y);
  }
  static torch::Tensor BiasGradient(const torch::Tensor& d_y) { return d_y.sum({0, 2, 3}); }

  explicit ConvolutionLayouts(const torch::Tensor& weight) : OfOneWeight(weight), forward_(WinogradOf(weight)) {}
  const kernels::WinogradWeights& forward() const { return forward_; }
  const kernels::WinogradWeights& backward() {
    std::call_once(once_, [&] { backward_.emplace(TurnedWinogradOf(weight())); });
    return *backward_;
  }

 private:
  const kernels::WinogradWeights forward_;
  std::once_flag once_;
  std::optional<kernels::WinogradWeights> backward_;
};

namespace {

template <typename Layouts>
c10::intrusive_ptr<Layouts> LayoutsIn(const torch::autograd::AutogradContext& ctx) {
  return c10::static_intrusive_pointer_cast<Layouts>(ctx.saved_data.at("layouts").toCapsule());
}

template <typename Layouts>
struct KernelFunction : torch::autograd::Function<KernelFunction<Layouts>> {
  static torch::Tensor forward(torch::autograd::AutogradContext* ctx, const torch::Tensor& x,
                               const torch::Tensor& weight, const std::optional<torch::Tensor>& bias,
                               const c10::intrusive_ptr<Layouts>& layouts) {
    // The weight is saved, too, so that LibTorch refuses a gradient that comes after it was written to.
    if (weight.requires_grad()) ctx->save_for_backward({x, weight});
    ctx->saved_data["layouts"] = c10::IValue::make_capsule(layouts);
    ctx->saved_data["bias"] = bias.has_value();
    return Multiplied(x, layouts->forward(), bias.value_or(torch::Tensor()));
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& gradients) {
    const torch::Tensor& d_y = gradients.front();
    const torch::autograd::variable_list saved = ctx->get_saved_variables();
    torch::Tensor of_x, of_weight, of_bias;
    if (ctx->needs_input_grad(0)) {
      const auto layouts = LayoutsIn<Layouts>(*ctx);
      of_x = Recorded(Layouts::kBackwardName, {d_y, layouts->weight()},
                      [&] { return Multiplied(d_y, layouts->backward(), {}); });
    }
    if constexpr (requires { Layouts::WeightGradient(d_y, d_y); }) {
      if (ctx->needs_input_grad(1)) of_weight = Layouts::WeightGradient(saved.front(), d_y);
    }
    if (WantsGradient(*ctx, ctx->saved_data.at("bias").toBool(), 2)) of_bias = Layouts::BiasGradient(d_y);
    return {of_x, of_weight, of_bias, {}};
  }
};

struct FeedForwardFunction : torch::autograd::Function<FeedForwardFunction> {
  // `keep`: whether a gradient may come.
  static torch::Tensor forward(torch::autograd::AutogradContext* ctx, const torch::Tensor& x,
                               const c10::intrusive_ptr<LinearLayouts>& in, const torch::Tensor& in_bias,
                               kernels::BetweenProducts between, const c10::intrusive_ptr<LinearLayouts>& out,
                               const torch::Tensor& out_bias, bool keep) {
    const torch::Tensor rows = x.contiguous();
    const int64_t from = in->forward().k(), wide = in->forward().n(), to = out->forward().n();
    std::vector<int64_t> shape = x.sizes().vec();
    shape.back() = to;
    torch::Tensor y = torch::empty(shape, x.options()), h;
    if (keep) h = torch::empty({x.numel() / from, wide}, x.options());
    at::parallel_for(0, x.numel() / from, kRowGrain, [&](int64_t first, int64_t end) {
      kernels::FeedForward(in->forward(), in_bias.const_data_ptr<float>(), between, out->forward(),
                           out_bias.const_data_ptr<float>(), rows.const_data_ptr<float>() + first * from, end - first,
                           keep ? h.mutable_data_ptr<float>() + first * wide : nullptr,
                           y.mutable_data_ptr<float>() + first * to);
    });
    if (keep) ctx->save_for_backward({h});
    ctx->saved_data["layouts"] = c10::IValue::make_capsule(in);
    ctx->saved_data["out"] = c10::IValue::make_capsule(out);
    ctx->saved_data["between"] = static_cast<int64_t>(between);
    return y;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& gradients) {
    const auto in = LayoutsIn<LinearLayouts>(*ctx);
    const auto out = c10::static_intrusive_pointer_cast<LinearLayouts>(ctx->saved_data.at("out").toCapsule());
    const auto between = static_cast<kernels::BetweenProducts>(ctx->saved_data.at("between").toInt());
    const torch::Tensor d_y = gradients.front().contiguous(), h = ctx->get_saved_variables().front();
    const auto d_x = Recorded("loupe::feed_forward_backward", {d_y, in->weight(), out->weight(), h}, [&] {
      std::vector<int64_t> shape = d_y.sizes().vec();
      shape.back() = in->weight().size(1);
      torch::Tensor made = torch::empty(shape, d_y.options());
      at::parallel_for(0, h.size(0), kRowGrain, [&](int64_t first, int64_t end) {
        kernels::FeedForwardGradient(out->backward(), between, in->backward(),
                                     d_y.const_data_ptr<float>() + first * d_y.size(-1),
                                     h.const_data_ptr<float>() + first * h.size(1), end - first,
                                     made.mutable_data_ptr<float>() + first * shape.back());
      });
      return made;
    });
    return {d_x, {}, {}, {}, {}, {}, {}};
  }
};

}  // namespace

template <typename Layouts>
bool KernelLayer<Layouts>::Takes(const torch::Tensor& x, const torch::Tensor& weight) {
  return KernelsTake(x) && Layouts::Takes(weight);
}

template <typename Layouts>
torch::Tensor KernelLayer<Layouts>::operator()(const torch::Tensor& x, const torch::Tensor& weight,
                                               const torch::Tensor& bias) {
  if (!Takes(x, weight)) return Layouts::LibTorchs(x, weight, bias);
  return Recorded(Layouts::kName, {x, weight, bias},
                  [&] { return KernelFunction<Layouts>::apply(x, weight, Given(bias), LayoutsOf(weight)); });
}

template <typename Layouts>
c10::intrusive_ptr<Layouts> KernelLayer<Layouts>::LayoutsOf(const torch::Tensor& weight) {
  const std::lock_guard lock(mutex_);
  const Seen seen{weight.const_data_ptr(), weight.is_inference() ? 0 : weight._version()};
  const bool again = seen == last_;
  if (again && kept_) return c10::static_intrusive_pointer_cast<Layouts>(kept_);
  auto made = c10::make_intrusive<Layouts>(weight);
  last_ = seen;
  kept_ = again ? made : nullptr;
  return made;
}

template class KernelLayer<LinearLayouts>;
template class KernelLayer<ConvolutionLayouts>;

torch::Tensor KernelFeedForward(const torch::Tensor& x, LinearKernel& in, const torch::Tensor& in_weight,
                                const torch::Tensor& in_bias, kernels::BetweenProducts between, LinearKernel& out,
                                const torch::Tensor& out_weight, const torch::Tensor& out_bias) {
  return Recorded("loupe::feed_forward", {x, in_weight, out_weight}, [&] {
    return FeedForwardFunction::apply(x, in.LayoutsOf(in_weight), in_bias, between, out.LayoutsOf(out_weight), out_bias,
                                      torch::autograd::compute_requires_grad(x));
  });
}

}  // namespace loupe::worker::nn
