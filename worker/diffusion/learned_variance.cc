#include "worker/diffusion/learned_variance.h"

#include <cmath>
#include <numbers>
#include <vector>

namespace loupe::worker::diffusion {
namespace {

// One entry per row, shaped to multiply `like`.
torch::Tensor At(const runtime::DeviceTable& table, const torch::Tensor& timesteps, const torch::Tensor& like) {
  std::vector<int64_t> shape(static_cast<size_t>(like.dim()), 1);
  shape[0] = -1;
  return table.On(like.device()).index_select(0, timesteps.to(like.device())).view(shape);
}

// The normal distribution's Φ.
torch::Tensor NormalCdf(const torch::Tensor& x) { return 0.5 * torch::erfc(x * -std::numbers::sqrt2 / 2); }

// −log of the probability of the step of 2/255 around x0 under N(mean, exp(log_variance)).
torch::Tensor StepNegativeLogLikelihood(const torch::Tensor& x0, const torch::Tensor& mean,
                                        const torch::Tensor& log_variance) {
  constexpr double kHalfStep = 1.0 / 255, kOutermost = 0.999, kLeast = 1e-12;
  const auto precision = torch::exp(-0.5 * log_variance);
  const auto below = NormalCdf(precision * (x0 - mean + kHalfStep));
  const auto above = NormalCdf(-precision * (x0 - mean - kHalfStep));
  const auto within = torch::where(x0 < -kOutermost, below, torch::where(x0 > kOutermost, above, below + above - 1.0));
  return -within.clamp_min(kLeast).log();
}

}  // namespace

LearnedVariance::LearnedVariance(const NoiseSchedule& schedule) {
  const auto beta = schedule.betas().to(torch::kFloat64);
  const auto alpha_bar = torch::cumprod(1.0 - beta, 0);
  const auto before = torch::cat({torch::ones({1}, torch::kFloat64), alpha_bar.slice(0, 0, -1)});
  const auto posterior = beta * (1.0 - before) / (1.0 - alpha_bar);
  log_betas_ = runtime::DeviceTable(beta.log());
  log_posterior_ = runtime::DeviceTable(torch::cat({posterior.slice(0, 1, 2), posterior.slice(0, 1)}).log());
  x0_factor_ = runtime::DeviceTable(before.sqrt() * beta / (1.0 - alpha_bar));
  xt_factor_ = runtime::DeviceTable((1.0 - beta).sqrt() * (1.0 - before) / (1.0 - alpha_bar));
}

torch::Tensor LearnedVariance::LogVariance(const torch::Tensor& output, const torch::Tensor& timesteps) const {
  const auto v = (output.to(torch::kFloat64) + 1.0) / 2.0;
  return v * At(log_betas_, timesteps, v) + (1.0 - v) * At(log_posterior_, timesteps, v);
}

torch::Tensor LearnedVariance::BoundTerms(const torch::Tensor& x0, const torch::Tensor& xt,
                                          const torch::Tensor& x0_predicted, const torch::Tensor& output,
                                          const torch::Tensor& timesteps) const {
  const auto clean = x0.detach().to(torch::kFloat64), predicted = x0_predicted.detach().to(torch::kFloat64);
  const auto log_variance = LogVariance(output, timesteps);
  const auto factor = At(x0_factor_, timesteps, clean), posterior = At(log_posterior_, timesteps, clean);
  // The means of q and p share their x_t part.
  const auto between = (factor * (clean - predicted)).square();
  const auto divergence =
      0.5 * (log_variance - posterior - 1.0 + (posterior - log_variance).exp() + between * (-log_variance).exp());
  const auto mean = factor * predicted + At(xt_factor_, timesteps, clean) * xt.detach().to(torch::kFloat64);
  std::vector<int64_t> shape(static_cast<size_t>(clean.dim()), 1);
  shape[0] = -1;
  const auto first = (timesteps.to(clean.device()) == 0).view(shape);
  const auto nats = torch::where(first, StepNegativeLogLikelihood(clean, mean, log_variance), divergence);
  return nats.flatten(1).mean(1) / std::numbers::ln2;
}

}  // namespace loupe::worker::diffusion
