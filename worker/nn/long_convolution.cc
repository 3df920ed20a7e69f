#include "worker/nn/long_convolution.h"

#include <torch/csrc/autograd/custom_function.h>
#include <torch/utils.h>

#include <algorithm>

namespace loupe::worker::nn {
namespace {

// Numbers of the input that go through all of it at a time on a CPU: with their transforms they stay in its cache.
constexpr int64_t kNumbersAtATime = 1 << 15;

// The last two dimensions exchanged, in one piece.
torch::Tensor Turned(const torch::Tensor& x) {
  // LibTorch has a fast copy for matrices alone.
  if (x.size(0) == 1) return x.select(0, 0).t().contiguous().unsqueeze(0);
  return x.transpose(1, 2).contiguous();
}

// The transform of x [B, H, L] behind L zeros: [B, H, L + 1].
torch::Tensor Spectrum(const torch::Tensor& x) { return at::fft_rfft(x, 2 * x.size(2), 2); }
torch::Tensor FromSpectrum(const torch::Tensor& spectrum) {
  const int64_t length = spectrum.size(2) - 1;
  return at::fft_irfft(spectrum, 2 * length, 2).narrow(2, 0, length);
}

// Â of K̂, and the other way round: [R, H, L + 1].
torch::Tensor Mirrored(const torch::Tensor& spectra, int64_t back) {
  const int64_t ahead = spectra.size(0) - back;
  if (ahead == 0) return spectra;
  return torch::cat({spectra.narrow(0, 0, back), spectra.narrow(0, back, ahead).conj()}).resolve_conj();
}

template <typename Body>
void ForRows(const torch::Tensor& u, const Body& body) {
  const int64_t rows = u.size(0), one = std::max<int64_t>(1, u[0].numel());
  const int64_t most = u.is_cpu() ? std::max<int64_t>(1, kNumbersAtATime / one) : rows;
  for (int64_t first = 0; first < rows; first += most) body(first, std::min(most, rows - first));
}

struct LongConvolutionFunction : torch::autograd::Function<LongConvolutionFunction> {
  // `kernels`: or, `transformed`, their Â.
  static torch::Tensor forward(torch::autograd::AutogradContext* ctx, const torch::Tensor& u,
                               const torch::Tensor& kernels, int64_t back, bool transformed) {
    const auto transfer = transformed ? kernels : TransferOf(kernels, back);
    const int64_t n = u.size(0), length = u.size(1), channels = u.size(2), count = transfer.size(0);
    auto y = torch::empty({n, length, count * channels}, u.options());
    // Of the input nothing but its transform is needed again, and that for the kernels' gradient alone.
    torch::Tensor conjugates;
    if (kernels.requires_grad()) conjugates = torch::empty({n, channels, length + 1}, transfer.options());
    ForRows(u, [&](int64_t first, int64_t rows) {
      const auto spectrum = Spectrum(Turned(u.narrow(0, first, rows)));
      if (conjugates.defined()) {
        auto kept = conjugates.narrow(0, first, rows);
        at::conj_physical_outf(spectrum, kept);
      }
      const auto product = (spectrum.unsqueeze(1) * transfer).view({rows, count * channels, length + 1});
      y.narrow(0, first, rows).copy_(Turned(FromSpectrum(product)));
    });
    ctx->save_for_backward({transfer, conjugates});
    ctx->saved_data["back"] = back;
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = ctx->get_saved_variables();
    const torch::Tensor &g = gradients[0], &transfer = saved[0], &conjugates = saved[1];
    const int64_t n = g.size(0), length = g.size(1), count = transfer.size(0), channels = transfer.size(1);
    const auto reversed = transfer.conj_physical();
    torch::Tensor to_u, to_transfer;
    if (ctx->needs_input_grad(0)) to_u = torch::empty({n, length, channels}, g.options());
    if (conjugates.defined()) to_transfer = torch::zeros_like(transfer);
    ForRows(g, [&](int64_t first, int64_t rows) {
      const auto spectrum = Spectrum(Turned(g.narrow(0, first, rows))).view({rows, count, channels, length + 1});
      if (to_u.defined()) {
        to_u.narrow(0, first, rows).copy_(Turned(FromSpectrum((spectrum * reversed).sum(1))));
      }
      if (to_transfer.defined()) {
        to_transfer.add_((conjugates.narrow(0, first, rows).unsqueeze(1) * spectrum).sum(0));
      }
    });
    torch::Tensor to_kernels;
    if (to_transfer.defined()) to_kernels = FromSpectrum(Mirrored(to_transfer, ctx->saved_data["back"].toInt()));
    return {to_u, to_kernels, torch::Tensor(), torch::Tensor()};
  }
};

}  // namespace

torch::Tensor LongConvolution(const torch::Tensor& u, const torch::Tensor& kernels, int64_t back) {
  TORCH_CHECK(u.dim() == 3 && kernels.dim() == 3 && kernels.size(1) == u.size(2) && kernels.size(2) == u.size(1),
              "long convolution: kernels ", kernels.sizes(), " for an input ", u.sizes());
  return LongConvolutionFunction::apply(u, kernels, back, false);
}

torch::Tensor TransferOf(const torch::Tensor& kernels, int64_t back) { return Mirrored(Spectrum(kernels), back); }

torch::Tensor LongConvolutionBy(const torch::Tensor& u, const torch::Tensor& transfer) {
  TORCH_CHECK(u.dim() == 3 && transfer.dim() == 3 && transfer.size(1) == u.size(2) &&
                  transfer.size(2) == u.size(1) + 1 && !transfer.requires_grad(),
              "long convolution: transforms of kernels ", transfer.sizes(), " for an input ", u.sizes());
  return LongConvolutionFunction::apply(u, transfer, 0, true);
}

}  // namespace loupe::worker::nn
