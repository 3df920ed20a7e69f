#include "worker/bench/base_steps.h"

#include <torch/utils.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <utility>

#include "common/positions.h"
#include "common/settings/settings.h"
#include "fmt/format.h"
#include "worker/bench/module_kind.h"
#include "worker/executor/attached_adapter.h"
#include "worker/methods/method_registry.h"
#include "worker/runtime/random_stream.h"
#include "worker/runtime/user_error.h"
#include "worker/sampling/picture_sampler.h"
#include "worker/sampling/sampler.h"
#include "worker/tasks/dreambooth.h"
#include "worker/train/trainer.h"

namespace loupe::worker::bench {
namespace {

constexpr double kGuidance = 3;

// The seconds of one step, and what was counted in another.
std::vector<RooflineRow> RowsOf(const StepWork& timed, const StepWork& counted, double seconds) {
  std::vector<RooflineRow> rows;
  double attributed = 0;
  for (int i = 0; i < kModuleKinds; ++i) {
    const auto& [forward, backward] = counted.at(static_cast<size_t>(i));
    RooflineRow row{.kind = std::string(ModuleKindName(static_cast<ModuleKind>(i))),
                    .forward_seconds = timed.at(static_cast<size_t>(i)).forward.seconds,
                    .backward_seconds = timed.at(static_cast<size_t>(i)).backward.seconds,
                    .forward_flops = forward.flops,
                    .backward_flops = backward.flops,
                    .bytes = forward.bytes + backward.bytes};
    if (static_cast<ModuleKind>(i) == ModuleKind::kOther) row.forward_seconds = seconds - attributed;
    attributed += row.seconds();
    if (row.seconds() != 0) rows.push_back(std::move(row));
  }
  return rows;
}

// What is measured: `prepare` is not.
struct Work {
  std::function<void()> prepare = [] {};
  std::function<void()> run;
};

class BaseWatch {
 public:
  BaseWatch(base::BaseModel& base, const StepClock& clock, int repeats)
      : base_(base), clock_(clock), repeats_(repeats) {}

  RooflineSection operator()(const std::string& name, const std::string& rows, const std::string& precision,
                             const Work& work) const {
    Seconds(work);  // warms up, and leaves the copies of weights that there will be
    WeightKinds weights;
    weights.AddLayersOf(base_.denoiser->network());
    weights.AddLayersOf(base_.conditioner->network());
    weights.AddLayersOf(*base_.vae);
    StepWork counted;
    {
      const StepWatch watch(weights, clock_, Watched::kTimesAndWork);
      Seconds(work);
      counted = watch.work();
    }
    std::vector<double> plain;
    std::vector<std::pair<double, StepWork>> watched;
    // In turn, so that both see the machine in the same state.
    for (int i = 0; i < repeats_; ++i) {
      plain.push_back(Seconds(work));
      const StepWatch watch(weights, clock_, Watched::kTimes);
      const double seconds = Seconds(work);
      watched.emplace_back(seconds, watch.work());
    }
    const auto middle = [](auto& values, const auto& less) {
      const auto at = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
      std::nth_element(values.begin(), at, values.end(), less);
      return *at;
    };
    RooflineSection section{.name = name, .rows = rows, .precision = precision};
    section.unwatched_seconds = middle(plain, std::less<>());
    const auto [seconds, parts] =
        middle(watched, [](const auto& left, const auto& right) { return left.first < right.first; });
    section.seconds = seconds;
    section.parts = RowsOf(parts, counted, seconds);
    return section;
  }

 private:
  double Seconds(const Work& work) const {
    work.prepare();
    const double start = clock_.Now();
    work.run();
    return clock_.Now() - start;
  }

  base::BaseModel& base_;
  const StepClock& clock_;
  const int repeats_;
};

settings::Settings AdapterOf(const nn::TuningSites& sites) {
  const auto has = [&](nn::Tap tap) {
    return std::any_of(sites.blocks.begin(), sites.blocks.end(), [&](const nn::TappableBlock& block) {
      return block.kind == nn::BlockKind::kTransformer && block.Has(tap);
    });
  };
  const Position input = has(nn::Tap::kCaOut) ? Position::kCaOut : Position::kSaOut;
  const Position output = has(nn::Tap::kFfnIn) ? Position::kFfnIn : Position::kTransOut;
  return runtime::ValueOrThrow(settings::Settings::Create({{"base", "b"},
                                                           {"scorer", "s"},
                                                           {"task.images", "i"},
                                                           {"task.instance_prompt", "a sks"},
                                                           {"task.class_prompt", "a"},
                                                           {"method.input", std::string(PositionName(input))},
                                                           {"method.output", std::string(PositionName(output))},
                                                           {"method.width", "32"},
                                                           {"budget.steps", "1"}}));
}

}  // namespace

std::vector<RooflineSection> WatchBase(base::BaseModel& base, const RooflineRequest& request, const StepClock& clock) {
  const BaseWatch watch(base, clock, request.repeats);
  const torch::Device device = base.denoiser->device();
  const std::string prompt = base.kind == io::BaseKind::kUNet ? "a photo" : "0";
  const torch::Tensor condition = base.EncodeText({prompt}).to(device);
  const torch::Tensor latents = runtime::RandomStream(3).Normal(sampling::NoiseShape(base, request.batch)).to(device);
  const std::string rows = fmt::format("{} {}", request.batch, request.batch == 1 ? "row" : "rows");
  const std::string pictures = fmt::format("{} {}", request.batch, request.batch == 1 ? "picture" : "pictures");
  std::vector<RooflineSection> sections;
  if (request.train) {
    auto data = std::make_shared<tasks::DreamBoothData>();
    data->instance.latents = latents;
    data->instance.context = condition;
    const nn::TuningSites sites = executor::SitesOf(base);
    const settings::Settings settings = AdapterOf(sites);
    const auto make = [&](const std::vector<size_t>& slots) {
      return methods::MakeMethod(sites, std::vector<methods::SlotOptions>(slots.size(), {settings, 1}), device);
    };
    train::TrainOptions options;
    if (request.precision == "bf16") options.precision = torch::kBFloat16;
    std::vector<train::TrainSlot> slots;
    slots.push_back({tasks::MakeDreamBoothSource(data, request.batch, {1, 2, 3}), runtime::RandomStream(4),
                     runtime::RandomStream(5), options});
    train::Trainer trainer(base, make, std::move(slots));
    sections.push_back(watch("training step", rows, request.precision, {.run = [&] { trainer.Step(); }}));
  }
  if (!request.sample) return sections;
  const torch::NoGradGuard no_grad;
  const torch::Tensor both = torch::cat(
      {base::RowsOf(base.EncodeText({""}).to(device), request.batch), base::RowsOf(condition, request.batch)});
  sampling::ConditionedDenoiser denoiser(*base.denoiser, both, /*guided=*/true);
  const sampling::NoisePredictor network = [&](const torch::Tensor& x, int64_t timestep) {
    return base.denoiser->NoisePart(denoiser(x, timestep));
  };
  const sampling::NoisePredictor guided = sampling::WithGuidance(network, kGuidance);
  std::unique_ptr<sampling::Sampler> sampler;
  sections.push_back(watch(
      "sampling step", fmt::format("{}, {} rows", pictures, 2 * request.batch), "float32",
      {.prepare =
           [&] { sampler = sampling::MakeSampler(sampling::SamplerKind::kDpmSolverPlusPlus2M, base.schedule, 20); },
       .run = [&] { sampler->Step(guided(latents, sampler->timesteps().front()), latents); }}));
  sections.push_back(
      watch("autoencoder's decoder", pictures, "float32", {.run = [&] { base.DecodeLatents(latents); }}));
  if (base.kind == io::BaseKind::kUNet) {
    sections.push_back(watch("text tower", "1 prompt", "float32", {.run = [&] { base.EncodeText({prompt}); }}));
  }
  return sections;
}

}  // namespace loupe::worker::bench
