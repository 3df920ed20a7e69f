// What an optimiser step costs in time and memory: an adapter on a UNet of random weights, by precision and with or
// without gradient checkpointing.
//
//   train_step_bench [--config UNET_CONFIG_JSON] [--latent-size N] [--rows N] [--precision float32|bf16|fp16]
//                    [--checkpointing] [--channels-first] [--device cpu|cuda] [--graphs] [--threads N] [--steps N]
//                    [--slots K] [--one-pass | --together] [--own-operators] [--cells one|quickstart|pairs]
//
// One process measures one kind of step, since a process's peak of memory never falls. Prints the median of the steps
// (the first one warms up) in elapsed and in processor time (the machine may be shared), and the peak of memory: the
// process's on a CPU, LibTorch's allocations on a GPU.
#include <sys/resource.h>
#include <torch/cuda.h>
#include <torch/types.h>
#include <torch/utils.h>
#ifdef LOUPE_WITH_CUDA
#include <c10/cuda/CUDACachingAllocator.h>
#endif

#include <algorithm>
#include <chrono>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "common/positions.h"
#include "common/process_use.h"
#include "fmt/format.h"
#include "worker/base/clip_unet.h"
#include "worker/methods/method_registry.h"
#include "worker/nn/tuning_sites.h"
#include "worker/runtime/cuda_graph.h"
#include "worker/runtime/device.h"
#include "worker/tasks/dreambooth.h"
#include "worker/train/trainer.h"

namespace {

using namespace loupe::worker;  // NOLINT: a program of one file

struct Flags {
  std::string config = "configs/bases/emoji-sd/unet/config.json";
  std::string precision = "float32";
  std::string device = "cpu";
  bool graphs = false;
  int64_t latent_size = 0;  // 0: the network's own
  int64_t rows = 8;
  int steps = 5;
  int threads = 1;
  bool checkpointing = false;
  bool channels_first = false;
  int64_t slots = 1;
  bool one_pass = false;
  bool own_operators = false;
  bool together = false;
  std::string cells = "one";
};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

double PeakMb(torch::Device device) {
#ifdef LOUPE_WITH_CUDA
  if (device.is_cuda()) {
    return static_cast<double>(
               c10::cuda::CUDACachingAllocator::getDeviceStats(device.index()).allocated_bytes[0].peak) /
           1e6;
  }
#endif
  TORCH_CHECK(device.is_cpu(), "no peak of memory is known for ", device);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1e3;
}

// In --cells' order, over and over: one pair; the quickstart's six; or all of them in equal parts.
std::vector<loupe::PositionPairId> PairsOf(const std::string& cells) {
  using loupe::Position;
  if (cells == "pairs") return loupe::LegalPairs();
  if (cells == "one") return {{Position::kCaOut, Position::kFfnIn}};
  std::vector<loupe::PositionPairId> pairs;
  for (const Position input : {Position::kSaIn, Position::kCaIn, Position::kCaOut}) {
    for (const Position output : {Position::kFfnIn, Position::kTransOut}) pairs.push_back({input, output});
  }
  return pairs;
}

loupe::settings::Settings AdapterSettings(const loupe::PositionPairId& pair) {
  const auto settings = loupe::settings::Settings::Create({{"base", "b"},
                                                           {"scorer", "s"},
                                                           {"task.images", "i"},
                                                           {"task.instance_prompt", "a sks"},
                                                           {"task.class_prompt", "a"},
                                                           {"method.input", std::string(PositionName(pair.input))},
                                                           {"method.output", std::string(PositionName(pair.output))},
                                                           {"method.width", "32"},
                                                           {"budget.steps", "1"}});
  TORCH_CHECK(settings.ok(), settings.status().ToString());
  return *settings;
}

void Run(const Flags& flags) {
  const auto prepared = runtime::PrepareDevice(flags.device, flags.threads);
  TORCH_CHECK(prepared.ok(), prepared.status().ToString());
  const torch::Device device = *prepared;
  const auto config = models::UNet2DConditionConfig::Read(flags.config);
  TORCH_CHECK(config.ok(), config.status().ToString());
  base::BaseModel base{.folder = flags.config,
                       .denoiser = nullptr,
                       .conditioner = nullptr,
                       .unet = models::UNet2DConditionModel(*config),
                       .schedule = diffusion::NoiseSchedule(diffusion::NoiseScheduleConfig{})};
  runtime::RandomStream stream(1);
  nn::InitialiseAsTorch(*base.unet, stream.generator());
  base.denoiser = base::MakeUNetDenoiser(base.unet);
  if (flags.graphs) base.recorder = runtime::MakeCudaGraphs(device);
  TORCH_CHECK(!flags.graphs || base.recorder != nullptr, "no CUDA graphs on ", device);
  for (torch::Tensor& weight : base.unet->parameters()) {
    weight.set_requires_grad(false);
    const bool last = weight.dim() == 4 && !flags.channels_first;
    weight.set_data(
        weight.to(device).contiguous(last ? torch::MemoryFormat::ChannelsLast : torch::MemoryFormat::Contiguous));
  }
  const int64_t side = flags.latent_size > 0 ? flags.latent_size : config->sample_size;
  auto data = std::make_shared<tasks::DreamBoothData>();
  data->instance.latents = stream.Normal({flags.rows, config->in_channels, side, side}).to(device);
  data->instance.context = stream.Normal({1, 77, config->cross_attention_dim}).to(device);
  const std::vector<loupe::PositionPairId> pairs = PairsOf(flags.cells);
  const auto make = [&](const std::vector<size_t>& slots) {
    std::vector<methods::SlotOptions> options;
    options.reserve(slots.size());
    for (const size_t slot : slots) options.push_back({AdapterSettings(pairs[slot % pairs.size()]), 1});
    return methods::MakeMethod(nn::SitesIn(*base.unet), options, device,
                               flags.own_operators ? methods::SlotOperators::kOwn : methods::SlotOperators::kJoined);
  };
  train::TrainOptions options;
  if (flags.precision == "bf16") options.precision = torch::kBFloat16;
  if (flags.precision == "fp16") {
    options.precision = torch::kHalf;
    options.loss_scale = train::LossScaler::kInitialScale;
  }
  options.recompute = flags.checkpointing;
  std::vector<train::TrainSlot> slots;
  for (int64_t slot = 0; slot < flags.slots; ++slot) {
    slots.push_back({tasks::MakeDreamBoothSource(data, flags.rows, {1, 2, 3}), runtime::RandomStream(4),
                     runtime::RandomStream(5), options});
  }
  train::Trainer trainer(base, make, std::move(slots));
  if (flags.one_pass) {
    train::Trainer::PassGroup all;
    for (size_t slot = 0; slot < static_cast<size_t>(flags.slots); ++slot) all.slots.push_back(slot);
    trainer.Regroup({all});
  }

  const double before = PeakMb(device);
  const int warm_up = flags.graphs ? 4 : 1;
  std::vector<double> elapsed, processor;
  for (int step = 0; step < warm_up + flags.steps; ++step) {
    const auto start = std::chrono::steady_clock::now();
    const double processor_start = loupe::ProcessCpuSeconds();
    if (flags.together) {
      const train::Trainer::Together together(trainer);
      for (size_t slot = 0; slot < static_cast<size_t>(flags.slots); ++slot) trainer.StepOf(slot);
    } else {
      trainer.Step();
    }
    if (device.is_cuda()) torch::cuda::synchronize(device.index());
    if (step < warm_up) continue;
    elapsed.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    processor.push_back(loupe::ProcessCpuSeconds() - processor_start);
  }
  fmt::print(
      "{} slots, {} rows of {}x{}, {}{}{}{}{}: {:.4f} s per step, {:.4f} s of processor; peak {:.0f} MB, {:.0f} MB of it "
      "the steps'\n",
      flags.slots, flags.rows, side, side,
      flags.slots > 1 ? (flags.one_pass   ? "in one pass, "
                         : flags.together ? "together, "
                                          : "a pass each, ")
                      : "",
      flags.precision, flags.checkpointing ? ", checkpointing" : "", flags.channels_first ? ", channels first" : "",
      flags.graphs ? ", graphs" : "", Median(elapsed), Median(processor), PeakMb(device), PeakMb(device) - before);
}

}  // namespace

int main(int argc, char** argv) try {
  CLI::App app("What an optimiser step costs in time and memory");
  Flags flags;
  app.add_option("--config", flags.config, "A UNet's config.json");
  app.add_option("--latent-size", flags.latent_size, "Height and width of the latents; 0: the network's own");
  app.add_option("--slots", flags.slots, "Trials in the pack")->check(CLI::PositiveNumber);
  app.add_flag("--one-pass", flags.one_pass, "They share the passes through the network");
  app.add_flag("--own-operators", flags.own_operators, "Their methods' operators are each slot's own, as in a worker");
  app.add_flag("--together", flags.together, "They share what the base computes before a method's first change");
  app.add_option("--cells", flags.cells, "The trials' cells")->check(CLI::IsMember({"one", "quickstart", "pairs"}));
  app.add_option("--rows", flags.rows, "Rows per step and trial")->check(CLI::PositiveNumber);
  app.add_option("--precision", flags.precision, "Of the network")->check(CLI::IsMember({"float32", "bf16", "fp16"}));
  app.add_flag("--checkpointing", flags.checkpointing, "Blocks are computed again in the backward pass");
  app.add_flag("--channels-first", flags.channels_first, "Convolution weights as they are in files");
  app.add_option("--device", flags.device, "auto, cpu, cuda or cuda:N");
  app.add_flag("--graphs", flags.graphs, "On a GPU: steps are repeated as CUDA graphs; three more of them warm up");
  app.add_option("--threads", flags.threads, "Threads of LibTorch");
  app.add_option("--steps", flags.steps, "Timed steps")->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  Run(flags);
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "train_step_bench: {}\n", error.what());
  return 1;
}
