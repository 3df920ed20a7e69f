#include "worker/executor/trial_training.h"

#include <cmath>

#include "fmt/format.h"
#include "spdlog/spdlog.h"

namespace loupe::worker {
namespace {

// A running error of fewer steps is the luck of the draw.
constexpr int64_t kErrorSteps = 20;
// How much more than the first step's error is a rise: large initial values of an adapter may make a network that is
// wrong from the start, which is a result and no divergence.
constexpr double kRise = 1.25;

// At the first step nothing has been trained: no learning rate is to blame.
UserError NotFiniteAt(const Settings& settings, int64_t step, const std::string& what) {
  const std::string how = fmt::format("{} at step {}", what, step);
  if (step > 1) return DivergedError(settings, how);
  if (!settings.Has("method.scale")) {
    return UserError(fmt::format("{}, before anything was trained; set train.precision to float32", how));
  }
  return UserError(
      fmt::format("{}, before anything was trained: the adapter's initial values are too large for this base; lower "
                  "method.scale, set method.init to zero, or train.precision to float32",
                  how));
}

// A last step may leave what no loss has seen yet.
void CheckTrained(const Settings& settings, const Trainer& trainer) {
  const std::string found = trainer.DescribeNotFinite();
  if (!found.empty()) throw DivergedError(settings, fmt::format("after step {} {}", trainer.steps(), found));
}

// Throws where the step shows that training has gone wrong.
void CheckStep(const Settings& settings, const SlotStep& step, int64_t steps) {
  if (step.kind == SlotStep::Kind::kFailed) {
    if (!step.cause.empty()) throw UserError(step.cause);
    throw NotFiniteAt(settings, steps + 1, fmt::format("the loss is {}", step.loss));
  }
  if (step.kind == SlotStep::Kind::kSkipped) return;
  if (!std::isfinite(step.gradient_norm)) {
    throw NotFiniteAt(settings, steps, fmt::format("the gradient is {}", step.gradient_norm));
  }
  const double limit = settings.Real("train.max_error");
  if (limit > 0 && steps >= kErrorSteps && step.running_error > limit &&
      step.running_error > kRise * step.first_error) {
    throw DivergedError(
        settings,
        fmt::format("the squared error of the {} steps up to {} is {:.3g} times that of predicting nothing, "
                    "and was {:.3g} times that at the start (train.max_error: {})",
                    kErrorSteps, steps, step.running_error, step.first_error, settings.Text("train.max_error")));
  }
}

}  // namespace

UserError DivergedError(const Settings& settings, const std::string& how) {
  return UserError(fmt::format("{}: training diverged; lower train.learning_rate ({}){}, or set train.clip_norm", how,
                               settings.Text("train.learning_rate"),
                               settings.Has("method.scale") ? " or method.scale" : ""));
}

void TrainToTheEnd(const TrialTraining& training, Trainer& trainer) {
  const Settings& settings = training.spec.settings;
  const std::string checkpoint = training.spec.checkpoint_folder + "/checkpoint.safetensors";
  const int64_t every = settings.Integer("train.checkpoint_every"), total = settings.Integer("budget.steps");
  const auto is_due = [&](int64_t period) { return period > 0 && trainer.steps() % period == 0; };
  if (every > 0 && trainer.LoadCheckpoint(checkpoint, training.fingerprint)) {
    spdlog::info("{}: goes on from step {}", training.spec.trial, trainer.steps());
  }
  const auto save = [&] {
    CheckTrained(settings, trainer);
    trainer.SaveCheckpoint(checkpoint, training.fingerprint);
  };
  while (trainer.steps() < total) {
    if (training.observer.ShouldStop()) {
      if (every > 0) save();
      throw Stopped();
    }
    const SlotStep step = trainer.Step().front();
    CheckStep(settings, step, trainer.steps());
    // For its loss scale: another batch is tried.
    if (step.kind == SlotStep::Kind::kSkipped) continue;
    training.observer.OnMetric("loss", trainer.steps(), step.loss);
    training.observer.OnProgress("train", trainer.steps(), total);
    if (is_due(settings.Integer("train.validate_every"))) {
      const double loss = ValidationLoss(training.base, training.validation);
      if (!std::isfinite(loss)) {
        throw DivergedError(settings, fmt::format("the validation loss is {} after step {}", loss, trainer.steps()));
      }
      training.observer.OnMetric("validation_loss", trainer.steps(), loss);
    }
    if (is_due(settings.Integer("score.every")) && trainer.steps() < total) {
      trainer.SwapAverage();
      training.score(trainer.steps());
      trainer.SwapAverage();
    }
    if (is_due(every) || (every > 0 && trainer.steps() == total)) save();
  }
  CheckTrained(settings, trainer);
  trainer.SwapAverage();
}

}  // namespace loupe::worker
