// What the frozen networks cost: UNet forward, forward and backward to the input, one sampling run, VAE decoding.
//
//   networks_bench [BASE] [--threads N] [--repeats N]
//
// Prints the best of the repeats (the machine may be shared) and the arithmetic rate for the given count of operations.
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <string>

#include "CLI/CLI.hpp"
#include "fmt/format.h"
#include "worker/base/base_model.h"
#include "worker/sampling/picture_sampler.h"

namespace {

using loupe::worker::base::BaseModel;

double BestMs(int repeats, const std::function<void()>& work) {
  double best = 1e30;
  for (int i = 0; i < repeats + 1; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    if (i > 0) best = std::min(best, took.count());  // the first run warms caches up
  }
  return best;
}

void Report(const std::string& what, int64_t samples, double gflop, double ms) {
  fmt::print("{:<44} {:>9.2f} ms {:>9.2f} ms/sample", what, ms, ms / static_cast<double>(samples));
  if (gflop > 0) fmt::print(" {:>8.1f} GFLOP/s", gflop / ms * 1000);
  fmt::print("\n");
  std::fflush(stdout);
}

void Run(BaseModel& base, int repeats, double gflop_per_sample) {
  auto& unet = base.unet;
  const int64_t size = base.denoiser->Shape().back();
  for (const int64_t batch : {4, 8, 16, 32}) {
    const auto latents = torch::randn({batch, 4, size, size});
    const auto timesteps = torch::randint(0, 1000, {batch}, torch::kInt64);
    const auto context = torch::randn({batch, base.conditioner->Ids({""}).size(1), unet->config().cross_attention_dim});
    const double gflop = gflop_per_sample * static_cast<double>(batch);
    const double forward = BestMs(repeats, [&] {
      torch::NoGradGuard no_grad;
      unet(latents, timesteps, context);
    });
    Report(fmt::format("UNet forward, batch {}", batch), batch, gflop, forward);
    const auto leaf = latents.clone().requires_grad_();
    const double backward = BestMs(repeats, [&] { unet(leaf, timesteps, context).square().mean().backward(); });
    // To the input only: the frozen weights get no gradient, so backward costs about as much as forward.
    Report(fmt::format("UNet forward and backward, batch {}", batch), batch, 2 * gflop, backward);
  }
  const int64_t pictures = 8;
  const auto noise = torch::randn({pictures, 4, size, size});
  loupe::worker::sampling::SampleOptions options;
  options.batch = pictures;
  const double sampling = BestMs(1, [&] { SampleLatents(base, {"red heart"}, noise, options); });
  Report(fmt::format("sampling 8 pictures, {} guided steps", options.steps), pictures,
         gflop_per_sample * 2 * static_cast<double>(pictures * options.steps), sampling);
  const double decoding = BestMs(repeats, [&] { base.DecodeLatents(noise); });
  Report("VAE decoding, 8 pictures", pictures, 0, decoding);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("What the frozen networks cost");
  std::string folder = "configs/bases/emoji-sd";
  int threads = 1, repeats = 5;
  double gflop_per_sample = 0.65;
  app.add_option("base", folder, "A base's folder");
  app.add_option("--threads", threads, "Threads of LibTorch");
  app.add_option("--repeats", repeats, "Timed runs of each; the best counts");
  app.add_option("--gflop", gflop_per_sample, "Arithmetic of one UNet forward per sample, in 1e9 operations");
  CLI11_PARSE(app, argc, argv);
  at::set_num_threads(threads);
  auto base = loupe::worker::base::LoadBase(folder);
  if (!base.ok()) {
    fmt::print(stderr, "{}\n", base.status().ToString());
    return 1;
  }
  Run(*base, repeats, gflop_per_sample);
  return 0;
}
