#include "worker/executor/trial_training.h"

#include <cmath>
#include <utility>

#include "common/logging.h"
#include "fmt/format.h"
#include "worker/methods/method_registry.h"
#include "worker/runtime/finite.h"

namespace loupe::worker::executor {
namespace {

// A running error of fewer steps than these is the luck of the draw.
constexpr int64_t kErrorSteps = 20;
// How much more than the first step's error is a rise: large initial values of an adapter may make a network that is
// wrong from the start, which is a result and no divergence.
constexpr double kRise = 1.25;

// At the first step nothing has been trained: no learning rate is to blame.
runtime::UserError NotFiniteAt(const settings::Settings& settings, int64_t step, const std::string& what) {
  const std::string how = fmt::format("{} at step {}", what, step);
  if (step > 1) return DivergedError(settings, how);
  if (!settings.Has("method.scale")) {
    return runtime::UserError(fmt::format("{}, before anything was trained; set train.precision to float32", how));
  }
  return runtime::UserError(
      fmt::format("{}, before anything was trained: the adapter's initial values are too large for this base; lower "
                  "method.scale, set method.init to zero, or train.precision to float32",
                  how));
}

// A last step may leave what no loss has seen yet.
void CheckTrained(const settings::Settings& settings, const train::Trainer& trainer, size_t slot) {
  const std::string found = trainer.DescribeNotFinite(slot);
  if (!found.empty()) throw DivergedError(settings, fmt::format("after step {} {}", trainer.steps(slot), found));
}

// Throws where the step shows that training has gone wrong.
void CheckStep(const settings::Settings& settings, const train::SlotStep& step, int64_t steps) {
  if (step.kind == train::SlotStep::Kind::kFailed) {
    if (!step.cause.empty()) throw runtime::UserError(step.cause);
    throw NotFiniteAt(settings, steps + 1, fmt::format("the loss is {}", runtime::WithoutNanSign(step.loss)));
  }
  if (step.kind == train::SlotStep::Kind::kSkipped) return;
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

runtime::UserError DivergedError(const settings::Settings& settings, const std::string& how) {
  return runtime::UserError(
      fmt::format("{}: training diverged; lower train.learning_rate ({}){}, or set train.clip_norm", how,
                  settings.Text("train.learning_rate"), settings.Has("method.scale") ? " or method.scale" : ""));
}

std::string CheckpointFile(const AttemptSpec& spec) { return spec.checkpoint_folder + "/checkpoint.safetensors"; }

TrialTraining::TrialTraining(Parts parts, train::Trainer& trainer, size_t slot)
    : parts_(std::move(parts)),
      trainer_(trainer),
      slot_(slot),
      checkpoint_(CheckpointFile(parts_.spec)),
      checkpoint_every_(parts_.spec.settings.Integer("train.checkpoint_every")),
      total_(methods::MethodOf(parts_.spec.settings).trains ? parts_.spec.settings.Integer("budget.steps") : 0) {
  if (checkpoint_every_ > 0 && trainer_.LoadCheckpoint(checkpoint_, parts_.fingerprint, slot_)) {
    LogInfo("{}: goes on from step {}", parts_.spec.trial, steps());
  }
}

void TrialTraining::SaveNow() {
  if (checkpoint_every_ == 0 || closed_ || validation_due_ || scores_due_ || trainer_.MidStep(slot_)) return;
  CheckTrained(parts_.spec.settings, trainer_, slot_);
  trainer_.SaveCheckpoint(checkpoint_, parts_.fingerprint, slot_);
}

bool TrialTraining::IsDue(std::string_view setting) const {
  const int64_t period = parts_.spec.settings.Integer(setting);
  return period > 0 && steps() % period == 0;
}

void TrialTraining::StopIfTold() {
  if (parts_.observer.ShouldStop()) {
    SaveNow();
    throw runtime::Stopped();
  }
  const int64_t finish = parts_.observer.FinishAfter();
  if (finish > 0 && finish <= steps() && !ended()) {
    stopped_at_ = steps();
    LogInfo("{}: ended early, after step {} of {}", parts_.spec.trial, stopped_at_, total_);
  }
}

void TrialTraining::Take(const train::SlotStep& step) {
  CheckStep(parts_.spec.settings, step, steps());
  // For its loss scale: another batch is tried.
  if (step.kind == train::SlotStep::Kind::kSkipped) {
    LogInfo("{}: the gradients of the batch after step {} overflowed: it is skipped, and the loss scale lowered",
            parts_.spec.trial, steps());
    return;
  }
  parts_.observer.OnMetric("loss", steps(), step.loss);
  parts_.observer.OnProgress("train", steps(), total_);
  validation_due_ = IsDue("train.validate_every");
  scores_due_ = IsDue("score.every") && !ended();
  checkpoint_due_ = IsDue("train.checkpoint_every") || ended();
}

void TrialTraining::TakeValidation(double loss) {
  validation_due_ = false;
  if (!std::isfinite(loss)) {
    throw DivergedError(parts_.spec.settings, fmt::format("the validation loss is {} after step {}", loss, steps()));
  }
  parts_.observer.OnMetric("validation_loss", steps(), loss);
}

void TrialTraining::TakeScores(const std::map<std::string, double>& scores) {
  scores_due_ = false;
  for (const auto& [name, value] : scores) parts_.observer.OnMetric(name, steps(), value);
}

void TrialTraining::EndStep() {
  if (std::exchange(checkpoint_due_, false)) SaveNow();
}

void TrialTraining::End() {
  if (closed_) return;
  CheckTrained(parts_.spec.settings, trainer_, slot_);
  trainer_.SwapAverage(slot_);
  closed_ = true;
}

}  // namespace loupe::worker::executor
