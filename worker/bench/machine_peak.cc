#include "worker/bench/machine_peak.h"

#include <torch/utils.h>

#include <algorithm>

namespace loupe::worker::bench {
namespace {

constexpr int kRuns = 5;

template <typename Body>
double LeastSecondsOf(const StepClock& clock, const Body& body) {
  body();
  double least = 1e30;
  for (int run = 0; run < kRuns; ++run) {
    const double start = clock.Now();
    body();
    least = std::min(least, clock.Now() - start);
  }
  return least;
}

}  // namespace

double MachinePeak::flops() const { return std::max(product_flops, convolution_flops); }
double MachinePeak::bytes() const { return std::max(copy_bytes, triad_bytes); }

MachinePeak MeasurePeak(const std::string& precision, torch::Device device, const StepClock& clock) {
  const torch::NoGradGuard no_grad;
  const bool gpu = device.is_cuda();
  const auto numbers = torch::dtype(precision == "bf16" ? torch::kBFloat16 : torch::kFloat32).device(device);
  MachinePeak peak{.precision = precision};
  {
    const int64_t n = gpu ? 8192 : 1024;
    const auto a = torch::ones({n, n}, numbers), b = torch::ones({n, n}, numbers);
    auto c = torch::empty({n, n}, numbers);
    const double size = static_cast<double>(n);
    peak.product_flops = 2 * size * size * size / LeastSecondsOf(clock, [&] { at::mm_out(c, a, b); });
  }
  {
    const int64_t n = gpu ? 32 : 8, channels = gpu ? 512 : 256, side = gpu ? 64 : 32;
    const auto last = at::MemoryFormat::ChannelsLast;
    const auto x = torch::ones({n, channels, side, side}, numbers).contiguous(last);
    const auto filters = torch::ones({channels, channels, 3, 3}, numbers).contiguous(last);
    const double flops = 2 * static_cast<double>(x.numel()) * static_cast<double>(9 * channels);
    peak.convolution_flops = flops / LeastSecondsOf(clock, [&] { at::conv2d(x, filters, {}, 1, 1); });
  }
  {
    // Beyond any cache.
    const int64_t n = int64_t{1} << (gpu ? 28 : 24);
    const auto plain = torch::dtype(torch::kFloat32).device(device);
    const auto b = torch::ones({n}, plain), c = torch::ones({n}, plain);
    auto a = torch::ones({n}, plain);
    const double bytes = 4 * static_cast<double>(n);
    peak.copy_bytes = 2 * bytes / LeastSecondsOf(clock, [&] { a.copy_(b); });
    peak.triad_bytes = 3 * bytes / LeastSecondsOf(clock, [&] { at::add_out(a, b, c, 3); });
  }
  return peak;
}

}  // namespace loupe::worker::bench
