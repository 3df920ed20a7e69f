#include "worker/sampling/sampler.h"

#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace loupe::worker::sampling {
namespace {

// numpy's linspace(0, last, count), rounded half to even, falling.
std::vector<int64_t> Linspace(int64_t last, int64_t count) {
  std::vector<int64_t> timesteps;
  const double step = count > 1 ? static_cast<double>(last) / static_cast<double>(count - 1) : 0.0;
  for (int64_t i = count; i-- > 0;) {
    const double exact = i + 1 == count && count > 1 ? static_cast<double>(last) : static_cast<double>(i) * step;
    timesteps.push_back(static_cast<int64_t>(std::nearbyint(exact)));
  }
  return timesteps;
}

std::vector<int64_t> Leading(int64_t count, int64_t ratio, int64_t offset) {
  std::vector<int64_t> timesteps;
  for (int64_t i = count; i-- > 0;) timesteps.push_back(i * ratio + offset);
  return timesteps;
}

// From the last timestep down by T/steps, as numpy's arange and round have it. For some numbers of steps (61 and 121 of
// 1,000) rounding makes diffusers' arange one longer, with a timestep of −1; here there are always `steps`.
std::vector<int64_t> Trailing(int64_t train_steps, int64_t steps) {
  const auto from = static_cast<double>(train_steps);
  const double stride = from - (from - from / static_cast<double>(steps));
  std::vector<int64_t> timesteps;
  for (int64_t i = 0; i < steps; ++i) {
    timesteps.push_back(static_cast<int64_t>(std::nearbyint(from - static_cast<double>(i) * stride)) - 1);
  }
  return timesteps;
}

class DdimSampler : public Sampler {
 public:
  DdimSampler(const diffusion::NoiseSchedule& schedule, int64_t steps)
      : Sampler(schedule, Timesteps(schedule.config(), steps)),
        stride_(schedule.config().num_train_timesteps / steps) {}

 protected:
  torch::Tensor StepAt(size_t index, const torch::Tensor& output, const torch::Tensor& xt) override {
    const int64_t t = timesteps()[index];
    const int64_t s = t - stride_;
    const double alpha_s = s >= 0                                 ? schedule().AlphaBar(s)
                           : schedule().config().set_alpha_to_one ? 1.0
                                                                  : schedule().AlphaBar(0);
    const auto at = torch::full({xt.size(0)}, t, torch::kInt64);
    const auto x0 = schedule().X0FromOutput(xt, output, at);
    const auto eps = schedule().EpsFromOutput(xt, output, at);
    return std::sqrt(alpha_s) * x0 + std::sqrt(1.0 - alpha_s) * eps;
  }

 private:
  static std::vector<int64_t> Timesteps(const diffusion::NoiseScheduleConfig& config, int64_t steps) {
    switch (config.timestep_spacing.value_or(diffusion::TimestepSpacing::kLeading)) {
      case diffusion::TimestepSpacing::kLinspace:
        return Linspace(config.num_train_timesteps - 1, steps);
      case diffusion::TimestepSpacing::kLeading:
        return Leading(steps, config.num_train_timesteps / steps, config.steps_offset);
      case diffusion::TimestepSpacing::kTrailing:
        return Trailing(config.num_train_timesteps, steps);
    }
    return {};
  }

  int64_t stride_;
};

class DpmSolverPlusPlus2M : public Sampler {
 public:
  DpmSolverPlusPlus2M(const diffusion::NoiseSchedule& schedule, int64_t steps)
      : Sampler(schedule, Timesteps(schedule.config(), steps)) {}

 protected:
  torch::Tensor StepAt(size_t index, const torch::Tensor& output, const torch::Tensor& xt) override {
    const size_t last = timesteps().size() - 1;
    const Level from = LevelAt(timesteps()[index]);
    const auto x0 = schedule().config().prediction_type == diffusion::PredictionType::kEpsilon
                        ? (xt - from.sigma * output) / from.alpha
                        : from.alpha * xt - from.sigma * output;
    const auto x0_before = std::exchange(x0_before_, x0);
    // At σ = 0 both λ and h are infinite and the first-order step is x̂_0 itself.
    if (index == last) return x0;
    const Level to = LevelAt(timesteps()[index + 1]);
    const double h = to.lambda - from.lambda;
    const double gain = -to.alpha * std::expm1(-h);
    auto next = (to.sigma / from.sigma) * xt + gain * x0;
    // The first step has no past to lean on.
    if (index == 0) return next;
    const double h_before = from.lambda - LevelAt(timesteps()[index - 1]).lambda;
    return next + (0.5 * gain * h / h_before) * (x0 - x0_before);
  }

 private:
  // ᾱ = 0 would have no λ: there diffusers takes the least number that float16 holds.
  static constexpr double kLeastAlphaBar = 0x1p-24;

  // α = √ᾱ, σ = √(1 − ᾱ), λ = log(α/σ).
  struct Level {
    double alpha, sigma, lambda;
  };
  Level LevelAt(int64_t t) const {
    const double exact = schedule().AlphaBar(t);
    const double alpha_bar = exact > 0 ? exact : kLeastAlphaBar;
    return {std::sqrt(alpha_bar), std::sqrt(1.0 - alpha_bar), 0.5 * std::log(alpha_bar / (1.0 - alpha_bar))};
  }

  static std::vector<int64_t> Timesteps(const diffusion::NoiseScheduleConfig& config, int64_t steps) {
    const diffusion::TimestepSpacing spacing = config.timestep_spacing.value_or(diffusion::TimestepSpacing::kLinspace);
    if (spacing == diffusion::TimestepSpacing::kTrailing) return Trailing(config.num_train_timesteps, steps);
    // One more than asked, down to 0; the last one is left out, as the walk ends at σ = 0.
    std::vector<int64_t> timesteps =
        spacing == diffusion::TimestepSpacing::kLinspace
            ? Linspace(config.num_train_timesteps - 1, steps + 1)
            : Leading(steps + 1, config.num_train_timesteps / (steps + 1), config.steps_offset);
    timesteps.pop_back();
    return timesteps;
  }

  torch::Tensor x0_before_;
};

}  // namespace

torch::Tensor Sampler::Step(const torch::Tensor& output, const torch::Tensor& xt) {
  TORCH_CHECK(next_ < timesteps_.size(), "the sampler has made all of its ", timesteps_.size(), " steps");
  return StepAt(next_++, output, xt);
}

std::unique_ptr<Sampler> MakeSampler(SamplerKind kind, const diffusion::NoiseSchedule& schedule, int64_t steps) {
  const int64_t most = schedule.config().num_train_timesteps - (kind == SamplerKind::kDdim ? 0 : 1);
  TORCH_CHECK(steps >= 1 && steps <= most, "sampling steps: ", steps, ", expected 1 to ", most);
  if (kind == SamplerKind::kDdim) return std::make_unique<DdimSampler>(schedule, steps);
  return std::make_unique<DpmSolverPlusPlus2M>(schedule, steps);
}

torch::Tensor RunSampler(Sampler& sampler, torch::Tensor latents, const NoisePredictor& predict) {
  torch::NoGradGuard no_grad;
  for (const int64_t timestep : sampler.timesteps()) latents = sampler.Step(predict(latents, timestep), latents);
  return latents;
}

NoisePredictor WithGuidance(NoisePredictor predict_pair, double scale, int64_t channels) {
  return [predict_pair = std::move(predict_pair), scale, channels](const torch::Tensor& latents, int64_t timestep) {
    const auto parts = predict_pair(torch::cat({latents, latents}), timestep).chunk(2);
    const auto guided = parts[0] + scale * (parts[1] - parts[0]);
    if (channels == 0 || channels >= guided.size(1)) return guided;
    return torch::cat({guided.narrow(1, 0, channels), parts[1].narrow(1, channels, guided.size(1) - channels)}, 1);
  };
}

}  // namespace loupe::worker::sampling
