#include "worker/executor/train_settings.h"

#include "fmt/format.h"
#include "worker/methods/method_registry.h"
#include "worker/runtime/user_error.h"

namespace loupe::worker::executor {
namespace {

train::AdamWOptions OptimizerFrom(const settings::Settings& settings) {
  return {.learning_rate = settings.Real("train.learning_rate"),
          .beta1 = settings.Real("train.beta1"),
          .beta2 = settings.Real("train.beta2"),
          .epsilon = settings.Real("train.epsilon"),
          .weight_decay = settings.Real("train.weight_decay"),
          .clip_norm = settings.Real("train.clip_norm")};
}

}  // namespace

train::TrainOptions TrainOptionsFrom(const settings::Settings& settings, const base::BaseModel& base,
                                     torch::Device device) {
  train::TrainOptions options;
  options.optimizer = OptimizerFrom(settings);
  options.schedule = {.warmup_steps = settings.Integer("train.warmup_steps"),
                      .cosine = settings.Text("train.schedule") == "cosine",
                      .total_steps = settings.Integer("budget.steps")};
  options.accumulation = settings.Integer("train.accumulation");
  options.min_snr_gamma = settings.Real("train.min_snr_gamma");
  options.vlb_weight = settings.Real("train.vlb_weight");
  if (options.vlb_weight > 0 && !base.denoiser->PredictsVariance()) {
    throw runtime::UserError(
        fmt::format("train.vlb_weight is {}, but {} predicts no variance; expected 0, or a base whose "
                    "unet/config.json has out_channels twice in_channels",
                    settings.Text("train.vlb_weight"), base.folder));
  }
  options.noise_offset = settings.Real("train.noise_offset");
  options.ema_decay = settings.Real("train.ema_decay");
  // One that is not known here is refused where it is made.
  const methods::MethodTraits* method = methods::FindMethod(settings.Text("method.kind"));
  options.trains_conditioner = method != nullptr && method->trains_conditioner(settings);
  options.recompute = settings.Boolean("train.gradient_checkpointing");
  if (settings.Text("train.precision") == "bf16") options.precision = torch::kBFloat16;
  if (settings.Text("train.precision") == "fp16") {
    if (!device.is_cuda())
      throw runtime::UserError("train.precision fp16 needs a GPU; expected bf16 or float32 on a CPU");
    options.precision = torch::kHalf;
    options.loss_scale = train::LossScaler::kInitialScale;
  }
  return options;
}

}  // namespace loupe::worker::executor
