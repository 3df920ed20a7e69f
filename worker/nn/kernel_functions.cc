#include "worker/nn/kernel_functions.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/utils.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "worker/kernels/attention.h"
#include "worker/nn/kernels_take.h"
#include "worker/nn/recorded.h"

namespace loupe::worker::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr auto kChannelsLast = at::MemoryFormat::ChannelsLast;

// Numbers that one thread should have at least.
constexpr int64_t kGrain = 16384;

const float* Data(const torch::Tensor& x) { return x.defined() ? x.const_data_ptr<float>() : nullptr; }

// A norm's weight and bias, of which the kernels take both or neither.
bool TakesBoth(const torch::Tensor& weight, const torch::Tensor& bias, int64_t size) {
  const auto taken = [&](const torch::Tensor& parameter) {
    return parameter.scalar_type() == torch::kFloat32 && parameter.is_contiguous() && parameter.numel() == size;
  };
  return weight.defined() == bias.defined() && (!weight.defined() || (taken(weight) && taken(bias)));
}

// Of a norm whose scale or shift is trained, and nothing that its input depends on.
bool TrainedAlone(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias) {
  return x.is_cpu() && !x.requires_grad() && torch::GradMode::is_enabled() &&
         ((weight.defined() && weight.requires_grad()) || (bias.defined() && bias.requires_grad()));
}

// Of `count` equal pieces of `size` numbers.
template <typename Compute>
void ForPieces(int64_t count, int64_t size, const Compute& compute) {
  at::parallel_for(0, count, std::max<int64_t>(1, kGrain / std::max<int64_t>(size, 1)), compute);
}

// weight and bias are saved as they are: a gradient that comes after they were written to is refused by LibTorch.
struct GroupNormFunction : torch::autograd::Function<GroupNormFunction> {
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& x, const std::optional<torch::Tensor>& w,
                               const std::optional<torch::Tensor>& b, int64_t groups, double eps, int64_t after) {
    const torch::Tensor weight = w.value_or(torch::Tensor()), bias = b.value_or(torch::Tensor());
    torch::Tensor y = torch::empty_like(x);
    torch::Tensor mean = torch::empty({x.size(0), groups}, x.options()), rstd = torch::empty_like(mean);
    const kernels::GroupNormShape whole{x.size(0), x.size(2) * x.size(3), x.size(1), groups};
    const int64_t size = whole.pixels * whole.channels;
    ForPieces(whole.pictures, size, [&](int64_t first, int64_t end) {
      auto shape = whole;
      shape.pictures = end - first;
      kernels::GroupNorm(shape, Data(x) + first * size, Data(weight), Data(bias), static_cast<float>(eps),
                         static_cast<kernels::AfterNorm>(after), y.mutable_data_ptr<float>() + first * size,
                         mean.mutable_data_ptr<float>() + first * groups,
                         rstd.mutable_data_ptr<float>() + first * groups);
    });
    ctx->save_for_backward({x, weight, bias, mean, rstd});
    ctx->saved_data["after"] = after;
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const variable_list saved = ctx->get_saved_variables();
    const torch::Tensor &x = saved[0], &weight = saved[1], &mean = saved[3], &rstd = saved[4];
    const torch::Tensor d_y = gradients[0].contiguous(kChannelsLast);
    const auto after = static_cast<kernels::AfterNorm>(ctx->saved_data.at("after").toInt());
    variable_list of_inputs(6);
    if (ctx->needs_input_grad(0)) of_inputs[0] = InputGradient(saved, d_y, after);
    const bool of_weight = WantsGradient(*ctx, weight.defined(), 1), of_bias = WantsGradient(*ctx, weight.defined(), 2);
    if (!of_weight && !of_bias) return of_inputs;
    // By pixel: [N, C, H, W] of [N, groups].
    const auto of_group = [&](const torch::Tensor& v) {
      return v.repeat_interleave(x.size(1) / v.size(1), 1).view({x.size(0), x.size(1), 1, 1});
    };
    const auto of_channel = [](const torch::Tensor& v) { return v.view({1, -1, 1, 1}); };
    const torch::Tensor normed = (x - of_group(mean)) * of_group(rstd);
    torch::Tensor d_normed = d_y;
    if (after == kernels::AfterNorm::kSilu) {
      d_normed = at::silu_backward(d_y, normed * of_channel(weight) + of_channel(saved[2]));
    }
    if (of_weight) of_inputs[1] = (d_normed * normed).sum({0, 2, 3});
    if (of_bias) of_inputs[2] = d_normed.sum({0, 2, 3});
    return of_inputs;
  }

 private:
  static torch::Tensor InputGradient(const variable_list& saved, const torch::Tensor& d_y, kernels::AfterNorm after) {
    const torch::Tensor &x = saved[0], &mean = saved[3], &rstd = saved[4];
    const kernels::GroupNormShape whole{x.size(0), x.size(2) * x.size(3), x.size(1), mean.size(1)};
    return Recorded("loupe::group_norm_backward", {d_y, x, saved[1], saved[2]}, [&] {
      torch::Tensor made = torch::empty_like(x);
      const int64_t size = whole.pixels * whole.channels;
      ForPieces(whole.pictures, size, [&](int64_t first, int64_t end) {
        auto shape = whole;
        shape.pictures = end - first;
        kernels::GroupNormGradient(shape, Data(d_y) + first * size, Data(x) + first * size,
                                   Data(mean) + first * whole.groups, Data(rstd) + first * whole.groups, Data(saved[1]),
                                   Data(saved[2]), after, made.mutable_data_ptr<float>() + first * size);
      });
      return made;
    });
  }
};

struct LayerNormFunction : torch::autograd::Function<LayerNormFunction> {
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& x, const std::optional<torch::Tensor>& weight,
                               const std::optional<torch::Tensor>& bias, double eps) {
    const int64_t columns = x.size(-1), rows = x.numel() / columns;
    torch::Tensor y = torch::empty_like(x);
    torch::Tensor mean = torch::empty({rows}, x.options()), rstd = torch::empty_like(mean);
    ForPieces(rows, columns, [&](int64_t first, int64_t end) {
      kernels::LayerNorm(Data(x) + first * columns, end - first, columns, Data(weight.value_or(torch::Tensor())),
                         Data(bias.value_or(torch::Tensor())), static_cast<float>(eps),
                         y.mutable_data_ptr<float>() + first * columns, mean.mutable_data_ptr<float>() + first,
                         rstd.mutable_data_ptr<float>() + first);
    });
    ctx->save_for_backward({x, weight.value_or(torch::Tensor()), mean, rstd});
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const variable_list saved = ctx->get_saved_variables();
    const torch::Tensor &x = saved[0], &weight = saved[1], &mean = saved[2], &rstd = saved[3];
    const torch::Tensor d_y = gradients[0].contiguous();
    const int64_t columns = x.size(-1);
    variable_list of_inputs(4);
    if (ctx->needs_input_grad(0)) {
      of_inputs[0] = Recorded("loupe::layer_norm_backward", {d_y, x, weight}, [&] {
        torch::Tensor made = torch::empty_like(x);
        ForPieces(x.numel() / columns, columns, [&](int64_t first, int64_t end) {
          kernels::LayerNormGradient(Data(d_y) + first * columns, Data(x) + first * columns, end - first, columns,
                                     Data(mean) + first, Data(rstd) + first, Data(weight),
                                     made.mutable_data_ptr<float>() + first * columns);
        });
        return made;
      });
    }
    const torch::Tensor rows = d_y.view({-1, columns});
    if (WantsGradient(*ctx, weight.defined(), 1)) {
      of_inputs[1] = (rows * (x.view({-1, columns}) - mean.unsqueeze(1)) * rstd.unsqueeze(1)).sum(0);
    }
    if (WantsGradient(*ctx, weight.defined(), 2)) of_inputs[2] = rows.sum(0);
    return of_inputs;
  }
};

struct ActivationFunction : torch::autograd::Function<ActivationFunction> {
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& x, int64_t kind) {
    torch::Tensor y = torch::empty_like(x);
    ForPieces(x.numel(), 1, [&](int64_t first, int64_t end) {
      kernels::Activate(static_cast<kernels::Activation>(kind), Data(x) + first, end - first,
                        y.mutable_data_ptr<float>() + first);
    });
    ctx->save_for_backward({x});
    ctx->saved_data["kind"] = kind;
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const torch::Tensor x = ctx->get_saved_variables()[0];
    // In x's order of memory, whatever that is.
    const torch::Tensor d_y =
        gradients[0].strides() == x.strides() ? gradients[0] : torch::empty_like(x).copy_(gradients[0]);
    const auto kind = static_cast<kernels::Activation>(ctx->saved_data.at("kind").toInt());
    const torch::Tensor d_x = Recorded("loupe::gelu_or_silu_backward", {d_y, x}, [&] {
      torch::Tensor made = torch::empty_like(x);
      ForPieces(x.numel(), 1, [&](int64_t first, int64_t end) {
        kernels::ActivateGradient(kind, Data(d_y) + first, Data(x) + first, end - first,
                                  made.mutable_data_ptr<float>() + first);
      });
      return made;
    });
    return {d_x, {}};
  }
};

struct GeluGateFunction : torch::autograd::Function<GeluGateFunction> {
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& x) {
    const int64_t columns = x.size(-1) / 2;
    std::vector<int64_t> shape = x.sizes().vec();
    shape.back() = columns;
    torch::Tensor y = torch::empty(shape, x.options());
    ForPieces(y.numel() / columns, columns, [&](int64_t first, int64_t end) {
      kernels::Geglu(Data(x) + first * 2 * columns, end - first, columns,
                     y.mutable_data_ptr<float>() + first * columns);
    });
    ctx->save_for_backward({x});
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const torch::Tensor x = ctx->get_saved_variables()[0];
    const torch::Tensor d_y = gradients[0].contiguous();
    const int64_t columns = d_y.size(-1);
    return {Recorded("loupe::gelu_gate_backward", {d_y, x}, [&] {
      torch::Tensor d_x = torch::empty_like(x);
      ForPieces(d_y.numel() / columns, columns, [&](int64_t first, int64_t end) {
        kernels::GegluGradient(Data(d_y) + first * columns, Data(x) + first * 2 * columns, end - first, columns,
                               d_x.mutable_data_ptr<float>() + first * 2 * columns);
      });
      return d_x;
    })};
  }
};

// [N, heads, tokens, d], of which the kernels see a picture's rows [tokens, heads · d].
bool IsTokenMajor(const torch::Tensor& x) {
  return x.stride(3) == 1 && x.stride(1) == x.size(3) && x.stride(2) >= x.size(1) * x.size(3);
}

torch::Tensor TokenMajor(const torch::Tensor& x) {
  return IsTokenMajor(x) ? x : x.transpose(1, 2).contiguous().transpose(1, 2);
}

// Of the shape [N, heads, tokens, d], in that order of memory.
torch::Tensor EmptyTokenMajor(const torch::Tensor& like) {
  return torch::empty({like.size(0), like.size(2), like.size(1), like.size(3)}, like.options()).transpose(1, 2);
}

kernels::ConstRows RowsOf(const torch::Tensor& x, int64_t picture) {
  return {x.const_data_ptr<float>() + picture * x.stride(0), x.stride(2)};
}
kernels::MutableRows MutableRowsOf(torch::Tensor& x, int64_t picture) {
  if (!x.defined()) return {};
  return {x.mutable_data_ptr<float>() + picture * x.stride(0), x.stride(2)};
}

// compute(picture, first head, end), for all heads of all pictures.
template <typename Compute>
void ForHeads(const torch::Tensor& queries, const Compute& compute) {
  const int64_t heads = queries.size(1);
  at::parallel_for(0, queries.size(0) * heads, 1, [&](int64_t first, int64_t end) {
    for (int64_t at = first; at < end;) {
      const int64_t picture = at / heads, stop = std::min(end, (picture + 1) * heads);
      compute(picture, at - picture * heads, stop - picture * heads);
      at = stop;
    }
  });
}

kernels::Attention InputsOf(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v, int64_t picture) {
  return {.q = RowsOf(q, picture),
          .k = RowsOf(k, picture),
          .v = RowsOf(v, picture),
          .queries = q.size(2),
          .keys = k.size(2),
          .width = q.size(3)};
}

struct AttentionFunction : torch::autograd::Function<AttentionFunction> {
  // `keep`: whether a gradient may come.
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& queries, const torch::Tensor& keys,
                               const torch::Tensor& values, bool keep) {
    const torch::Tensor q = TokenMajor(queries), k = TokenMajor(keys), v = TokenMajor(values);
    torch::Tensor out = EmptyTokenMajor(q);
    torch::Tensor log_sums;
    if (keep) log_sums = torch::empty({q.size(0), q.size(1), q.size(2)}, q.options());
    ForHeads(q, [&](int64_t picture, int64_t first, int64_t end) {
      kernels::MutableRows sums;
      if (keep) sums = {log_sums.mutable_data_ptr<float>() + picture * log_sums.stride(0), log_sums.stride(1)};
      kernels::AttentionForward(InputsOf(q, k, v, picture), first, end, MutableRowsOf(out, picture), sums);
    });
    if (keep) ctx->save_for_backward({q, k, v, out, log_sums});
    return out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const variable_list saved = ctx->get_saved_variables();
    const torch::Tensor &q = saved[0], &k = saved[1], &v = saved[2], &out = saved[3], &log_sums = saved[4];
    const torch::Tensor d_out = TokenMajor(gradients[0]);
    torch::Tensor d_q, d_k, d_v;
    Recorded("loupe::attention_backward", {d_out, q, k, v, out}, [&] {
      d_q = EmptyTokenMajor(q);
      if (ctx->needs_input_grad(1)) d_k = EmptyTokenMajor(k);
      if (ctx->needs_input_grad(2)) d_v = EmptyTokenMajor(v);
      ForHeads(q, [&](int64_t picture, int64_t first, int64_t end) {
        const float* const sums = log_sums.const_data_ptr<float>() + picture * log_sums.stride(0);
        kernels::AttentionBackward(InputsOf(q, k, v, picture), first, end, RowsOf(out, picture),
                                   {sums, log_sums.stride(1)}, RowsOf(d_out, picture), MutableRowsOf(d_q, picture),
                                   MutableRowsOf(d_k, picture), MutableRowsOf(d_v, picture));
      });
      return d_q;
    });
    return {d_q, d_k, d_v, {}};
  }
};

}  // namespace

torch::Tensor GroupNormThen(const torch::Tensor& x, int64_t groups, const torch::Tensor& weight,
                            const torch::Tensor& bias, double eps, kernels::AfterNorm after) {
  if (KernelsTake(x) && x.dim() == 4 && x.is_contiguous(kChannelsLast) && TakesBoth(weight, bias, x.size(1))) {
    return Recorded("loupe::group_norm", {x, weight, bias}, [&] {
      return GroupNormFunction::apply(x, Given(weight), Given(bias), groups, eps, static_cast<int64_t>(after));
    });
  }
  // On a CPU, LibTorch's bfloat16 norm takes longer than widening and the float32 norm together.
  const bool widen = x.is_cpu() && x.scalar_type() == torch::kBFloat16;
  torch::Tensor given = widen ? x.to(torch::kFloat32) : x;
  // The gradient of LibTorch's GroupNorm on a CPU, channels last, is written for the input even where there is none to
  // write to, and the process ends (2.13): there it is given one, which nobody reads.
  if (TrainedAlone(x, weight, bias)) given = given.detach().requires_grad_();
  const torch::Tensor y = torch::group_norm(given, groups, weight, bias, eps);
  return after == kernels::AfterNorm::kSilu ? torch::silu(y) : y;
}

torch::Tensor LayerNormOf(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias, double eps) {
  if (!KernelsTake(x) || !x.is_contiguous() || x.size(-1) % 8 != 0 || !TakesBoth(weight, bias, x.size(-1))) {
    return torch::layer_norm(x, {x.size(-1)}, weight, bias, eps);
  }
  return Recorded("loupe::layer_norm", {x, weight, bias},
                  [&] { return LayerNormFunction::apply(x, Given(weight), Given(bias), eps); });
}

torch::Tensor Activated(const torch::Tensor& x, kernels::Activation kind) {
  if (KernelsTake(x) && x.is_non_overlapping_and_dense()) {
    return Recorded("loupe::gelu_or_silu", {x},
                    [&] { return ActivationFunction::apply(x, static_cast<int64_t>(kind)); });
  }
  if (kind == kernels::Activation::kSilu) return torch::silu(x);
  return torch::gelu(x, kind == kernels::Activation::kGeluTanh ? "tanh" : "none");
}

torch::Tensor GeluGated(const torch::Tensor& x) {
  if (!KernelsTake(x) || !x.is_contiguous()) {
    const auto parts = x.chunk(2, -1);
    return parts[0] * torch::gelu(parts[1]);
  }
  return Recorded("loupe::gelu_gate", {x}, [&] { return GeluGateFunction::apply(x); });
}

torch::Tensor AttentionOf(const torch::Tensor& queries, const torch::Tensor& keys, const torch::Tensor& values) {
  const bool taken = KernelsTake(queries) && KernelsTake(keys) && KernelsTake(values) && queries.size(3) % 8 == 0;
  if (!taken) return at::scaled_dot_product_attention(queries, keys, values);
  const bool trains = torch::autograd::compute_requires_grad(queries, keys, values);
  return Recorded("loupe::attention", {queries, keys, values},
                  [&] { return AttentionFunction::apply(queries, keys, values, trains); });
}

}  // namespace loupe::worker::nn
