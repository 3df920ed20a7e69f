// What a block of DiT and of DiffuSSM costs by the length of the sequence, by the clock, beside what is counted
// (common/network_flops.h): docs/bases.md has the table.
//
//   backbones_bench [--width D] [--layers N] [--repeats R]
//
// One latent, forward, one thread. Times are of the thread's own clock (what other programs take of the core is left
// out, what they take of its caches is not), the least of the repeats.
#include <time.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <string>

#include "CLI/CLI.hpp"
#include "common/network_flops.h"
#include "fmt/format.h"
#include "worker/models/diffussm.h"
#include "worker/models/dit.h"
#include "worker/nn/leaf_layers.h"

namespace {

using namespace loupe;          // NOLINT(google-build-using-namespace)
using namespace loupe::worker;  // NOLINT(google-build-using-namespace)

double ThreadSeconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

double LeastSeconds(int repeats, const std::function<void()>& run) {
  run();  // warms caches up
  double least = 1e30;
  for (int i = 0; i < repeats; ++i) {
    const double start = ThreadSeconds();
    run();
    least = std::min(least, ThreadSeconds() - start);
  }
  return least;
}

struct Options {
  int64_t width = 1152, layers = 1;
  int repeats = 3;
};

template <typename Network>
void Report(const std::string& name, Network network, int64_t side, double multiply_adds, const Options& options) {
  nn::InitialiseAsTorch(*network, at::make_generator<at::CPUGeneratorImpl>(uint64_t{1}));
  const auto x = torch::randn({1, 4, side, side}, at::make_generator<at::CPUGeneratorImpl>(uint64_t{2}));
  const auto t = torch::tensor({int64_t{500}}), label = torch::tensor({int64_t{0}});
  const double seconds = LeastSeconds(options.repeats, [&] { network(x, t, label); });
  fmt::print("{:<16} {:>6} places {:>10.1f} ms {:>9.2f} G multiply-adds {:>7.1f} GFLOP/s\n", name, side * side,
             1e3 * seconds, multiply_adds / 1e9, 2 * multiply_adds / 1e9 / seconds);
  std::fflush(stdout);
}

void RunDiT(int64_t side, int64_t patch, const Options& options) {
  models::DiTConfig config;
  config.sample_size = side;
  config.patch_size = patch;
  config.layers = options.layers;
  config.heads = options.width / config.head_width;
  const auto real = [](int64_t value) { return static_cast<double>(value); };
  const double work = TotalMultiplyAdds(DiTWork({.side = real(side),
                                                 .patch = real(patch),
                                                 .width = real(config.heads * config.head_width),
                                                 .layers = real(options.layers)}));
  Report(fmt::format("DiT, P = {}", patch), models::DiTTransformer2DModel(config), side, work, options);
}

void RunDiffuSSM(int64_t side, int64_t hourglass, const Options& options) {
  models::DiffuSSMConfig config;
  config.sample_size = side;
  config.hourglass = hourglass;
  config.layers = options.layers;
  config.width = options.width;
  const auto real = [](int64_t value) { return static_cast<double>(value); };
  const double work = TotalMultiplyAdds(DiffuSSMWork({.side = real(side),
                                                      .hourglass = real(hourglass),
                                                      .width = real(options.width),
                                                      .layers = real(options.layers)}));
  Report(fmt::format("DiffuSSM, M = {}", hourglass), models::DiffuSSMModel(config), side, work, options);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("What a block of DiT and of DiffuSSM costs by the length of the sequence");
  Options options;
  app.add_option("--width", options.width, "D, a multiple of 72");
  app.add_option("--layers", options.layers, "Blocks");
  app.add_option("--repeats", options.repeats, "Timed runs of each; the least counts");
  CLI11_PARSE(app, argc, argv);
  torch::set_num_threads(1);
  torch::NoGradGuard no_grad;
  for (const int64_t side : {16, 32, 64}) {
    for (const int64_t patch : {1, 2}) RunDiT(side, patch, options);
    for (const int64_t hourglass : {1, 2, 4}) RunDiffuSSM(side, hourglass, options);
  }
  return 0;
}
