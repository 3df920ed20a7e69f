#include <algorithm>
#include <string>
#include <string_view>

#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/diffusion/noise_schedule.h"
#include "worker/io/json_config.h"

namespace loupe::worker::diffusion {
namespace {

// diffusers' samplers of one and the same thing: a network trained in discrete time on βs. Which of them a file names
// does not matter, as a trial's settings choose the sampler. Its other classes mean other networks (flow matching, EDM,
// consistency models, steps distilled into the weights), to which neither this noise nor these samplers belong.
constexpr std::string_view kClasses[] = {"DDIMScheduler",
                                         "DDIMParallelScheduler",
                                         "DDPMScheduler",
                                         "DDPMParallelScheduler",
                                         "PNDMScheduler",
                                         "LMSDiscreteScheduler",
                                         "EulerDiscreteScheduler",
                                         "EulerAncestralDiscreteScheduler",
                                         "HeunDiscreteScheduler",
                                         "KDPM2DiscreteScheduler",
                                         "KDPM2AncestralDiscreteScheduler",
                                         "DPMSolverMultistepScheduler",
                                         "DPMSolverSDEScheduler",
                                         "DPMSolverSinglestepScheduler",
                                         "DEISMultistepScheduler",
                                         "UniPCMultistepScheduler"};

constexpr int64_t kMostTimesteps = 100'000;

void CheckClass(io::JsonConfig& json) {
  const std::string name = json.String("_class_name", std::string(kClasses[0]));
  if (std::find(std::begin(kClasses), std::end(kClasses), name) != std::end(kClasses)) return;
  std::string known;
  for (const std::string_view each : kClasses) known += (known.empty() ? "" : ", ") + std::string(each);
  json.Refuse("_class_name", "a scheduler of noise in discrete time: " + known);
}

// What diffusers' DDIMScheduler and DPMSolverMultistepScheduler take from the file, when they are made from it
// (from_config), and the samplers here know in one form only.
void RefuseOtherSampling(io::JsonConfig& json) {
  for (const char* key : {"use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas",
                          "use_flow_sigmas", "use_dynamic_shifting", "thresholding", "clip_sample"}) {
    json.MustBe(key, {false});
  }
  for (const char* key : {"lambda_min_clipped", "sigma_min", "sigma_max", "shift_terminal"})
    json.MustBe(key, {nullptr});
  json.MustBe("solver_order", {2});
  // DEIS's and UniPC's words, which from_config takes for the first one.
  json.MustBe("algorithm_type", {"dpmsolver++", "deis"});
  json.MustBe("solver_type", {"midpoint", "logrho", "bh1", "bh2"});
  json.MustBe("final_sigmas_type", {"zero"});
  json.MustBe("timestep_type", {"discrete"});
  // "learned" is a variance in another unit than learned_variance.h's.
  json.MustBe("variance_type", {"fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log", "learned_range"});
  // An old spelling of prediction_type.
  json.MustBe("predict_epsilon", {true});
  // The first two are decided by final_sigmas_type at this order; then what means something only beside settings
  // refused above; then what belongs to samplers that are not here.
  json.Ignore({"lower_order_final", "euler_at_final"});
  json.Ignore({"dynamic_thresholding_ratio", "sample_max_value", "clip_sample_range", "flow_shift", "time_shift_type"});
  json.Ignore({"skip_prk_steps", "interpolation_type", "predict_x0", "disable_corrector", "solver_p",
               "noise_sampler_seed", "tensor_format", "timestep_values"});
}

// Of the keys that say the βs, those that count: trained_betas alone, or beta_schedule and what it asks for.
void ReadBetas(io::JsonConfig& json, NoiseScheduleConfig& config) {
  json.Ignore({"beta_schedule", "beta_start", "beta_end"});
  if (json.Has("trained_betas")) {
    config.trained_betas = json.Numbers("trained_betas");
    const auto is_share = [](double beta) { return beta > 0 && beta < 1; };
    if (static_cast<int64_t>(config.trained_betas.size()) != config.num_train_timesteps ||
        !std::all_of(config.trained_betas.begin(), config.trained_betas.end(), is_share)) {
      json.Refuse("trained_betas",
                  fmt::format("num_train_timesteps ({}) numbers between 0 and 1", config.num_train_timesteps));
    }
    return;
  }
  const std::string betas = json.String("beta_schedule");
  if (betas == "squaredcos_cap_v2") {
    config.beta_schedule = BetaSchedule::kSquaredCosine;
    return;
  }
  if (betas != "linear" && betas != "scaled_linear") {
    json.Refuse("beta_schedule", "linear, scaled_linear or squaredcos_cap_v2, or trained_betas");
  }
  config.beta_schedule = betas == "linear" ? BetaSchedule::kLinear : BetaSchedule::kScaledLinear;
  config.beta_start = json.Number("beta_start");
  config.beta_end = json.Number("beta_end");
  if (!(config.beta_start > 0 && config.beta_start < 1)) json.Refuse("beta_start", "a number between 0 and 1");
  if (!(config.beta_end >= config.beta_start && config.beta_end < 1)) json.Refuse("beta_end", "beta_start to 1");
}

}  // namespace

absl::StatusOr<NoiseScheduleConfig> NoiseScheduleConfig::Read(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(io::JsonConfig json, io::JsonConfig::Read(path));
  CheckClass(json);
  NoiseScheduleConfig config;
  config.num_train_timesteps = json.Int("num_train_timesteps", 1000);
  if (config.num_train_timesteps < 2 || config.num_train_timesteps > kMostTimesteps) {
    json.Refuse("num_train_timesteps", fmt::format("2 to {}", kMostTimesteps));
  }
  ReadBetas(json, config);
  const std::string prediction = json.String("prediction_type", "epsilon");
  if (prediction != "epsilon" && prediction != "v_prediction") {
    json.Refuse("prediction_type", "epsilon or v_prediction");
  }
  config.prediction_type = prediction == "epsilon" ? PredictionType::kEpsilon : PredictionType::kVPrediction;
  config.rescale_betas_zero_snr = json.Bool("rescale_betas_zero_snr", false);
  if (config.rescale_betas_zero_snr && config.prediction_type == PredictionType::kEpsilon) {
    json.Refuse("rescale_betas_zero_snr",
                "false, or prediction_type v_prediction: from noise alone no ε tells a picture");
  }
  const std::string spacing = json.String("timestep_spacing", "");
  if (spacing == "linspace") {
    config.timestep_spacing = TimestepSpacing::kLinspace;
  } else if (spacing == "leading") {
    config.timestep_spacing = TimestepSpacing::kLeading;
  } else if (spacing == "trailing") {
    config.timestep_spacing = TimestepSpacing::kTrailing;
  } else if (!spacing.empty() || json.Has("timestep_spacing")) {
    json.Refuse("timestep_spacing", "linspace, leading or trailing");
  }
  config.steps_offset = json.Int("steps_offset", 0);
  if (config.steps_offset < 0 || config.steps_offset > 1) json.Refuse("steps_offset", "0 or 1");
  config.set_alpha_to_one = json.Bool("set_alpha_to_one", true);
  RefuseOtherSampling(json);
  LOUPE_RETURN_IF_ERROR(json.FinishStrictly());
  return config;
}

}  // namespace loupe::worker::diffusion
