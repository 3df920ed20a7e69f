#include "worker/train/network_training.h"

#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "common/logging.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/runtime/finite.h"
#include "worker/train/checkpoint.h"
#include "worker/train/training_state.h"

namespace loupe::worker::train {
namespace {

TrainingState StateOf(torch::nn::Module& network, const NetworkTraining& training) {
  torch::NoGradGuard no_grad;
  for (auto& parameter : network.parameters()) {
    // Convolutions are 1.2–1.3 times as fast so; what is loaded into them later keeps the layout.
    if (parameter.dim() == 4) parameter.set_data(parameter.contiguous(torch::MemoryFormat::ChannelsLast));
    parameter.set_requires_grad(true);
  }
  std::vector<SlotParameter> parameters = ParametersOfNetwork(network);
  auto optimizer = std::make_unique<MuonAdamW>(parameters, training.rates);
  return {std::move(parameters), std::move(optimizer), training.average};
}

// FAILED_PRECONDITION when a value is not finite: nothing could go on from it.
absl::Status Write(const TrainingState& state, const std::string& fingerprint, const std::string& path) {
  Checkpoint checkpoint{state.Save(), state.steps()};
  for (const auto& [name, tensor] : checkpoint.arrays) {
    if (const std::string found = runtime::DescribeNotFinite(tensor); !found.empty()) {
      return absl::FailedPreconditionError(
          fmt::format("'{}' after step {}: {}; {} still has the checkpoint before it: lower the rates and go on from "
                      "there",
                      name, state.steps(), found, path));
    }
  }
  return WriteCheckpoint(path, fingerprint, checkpoint);
}

// False: there is no checkpoint.
absl::StatusOr<bool> Resume(TrainingState& state, const std::string& fingerprint, const std::string& path) {
  const auto checkpoint = ReadCheckpoint(path, fingerprint);
  if (absl::IsNotFound(checkpoint.status())) return false;
  const std::string why(checkpoint.status().message());
  if (absl::IsInvalidArgument(checkpoint.status())) {
    return absl::InvalidArgumentError(fmt::format("{}; start with a new --out", why));
  }
  if (absl::IsDataLoss(checkpoint.status())) {
    return absl::DataLossError(fmt::format("{}; remove it to begin this part anew", why));
  }
  LOUPE_RETURN_IF_ERROR(checkpoint.status());
  try {
    state.Restore(checkpoint->arrays, checkpoint->step);
  } catch (const c10::Error& e) {
    return absl::InvalidArgumentError(
        fmt::format("{}: {}: it is of another network than the config's; start with a new --out, or go on with the "
                    "config that this run began with",
                    path, e.what_without_backtrace()));
  }
  return true;
}

// Losses and their parts as the device has them, until they are read, all at once: reading one waits for everything
// before it.
class PendingLosses {
 public:
  explicit PendingLosses(int64_t first_step) : first_step_(first_step) {}

  struct Step {
    int64_t step;
    std::map<std::string, double> values;  // "loss" and the parts
  };

  void Add(const torch::Tensor& loss, std::map<std::string, torch::Tensor> parts) {
    parts["loss"] = loss;
    for (auto& [name, value] : parts) values_[name].push_back(value.detach().to(torch::kFloat64));
    ++count_;
  }

  int64_t size() const { return count_; }

  std::vector<Step> Read() {
    std::vector<Step> steps(static_cast<size_t>(count_));
    for (size_t i = 0; i < steps.size(); ++i) steps[i].step = first_step_ + static_cast<int64_t>(i);
    for (const auto& [name, values] : values_) {
      const auto read = torch::stack(values).cpu();
      for (size_t i = 0; i < steps.size(); ++i) steps[i].values[name] = read[static_cast<int64_t>(i)].item<double>();
    }
    first_step_ += count_;
    count_ = 0;
    values_.clear();
    return steps;
  }

 private:
  int64_t first_step_, count_ = 0;
  std::map<std::string, std::vector<torch::Tensor>> values_;
};

// How many steps' losses may wait to be read: on a CPU nothing is gained by waiting.
int64_t MostPending(Objective& objective) { return objective.network().parameters().front().is_cuda() ? 32 : 1; }

// Means since the last line, and the time that is left.
class Progress {
 public:
  Progress(const Objective& objective, const NetworkTraining& training, const TrainingLimit& limit)
      : objective_(objective), training_(training), limit_(limit) {}

  void Add(const std::map<std::string, double>& values) {
    for (const auto& [name, value] : values) sums_[name] += value;
    ++count_;
  }

  void Log(int64_t done) {
    if (count_ == 0) return;
    const absl::Duration now = SystemClock().MonotonicNow();
    const double each = absl::ToDoubleSeconds(now - since_) / static_cast<double>(count_);
    double left = each * static_cast<double>(training_.steps - done);
    if (limit_.clock) left = std::min(left, absl::ToDoubleSeconds(limit_.deadline - limit_.clock->MonotonicNow()));
    std::string means;
    for (const auto& [name, sum] : sums_) means += fmt::format(" {} {:.4f}", name, sum / static_cast<double>(count_));
    LogInfo("{} {}/{}{}, {:.3f} s a step, {:.0f} min left", objective_.name(), done, training_.steps, means, each,
            std::max(0.0, left) / 60);
    sums_.clear();
    count_ = 0;
    since_ = now;
  }

 private:
  const Objective& objective_;
  const NetworkTraining& training_;
  const TrainingLimit& limit_;
  std::map<std::string, double> sums_;
  int64_t count_ = 0;
  absl::Duration since_ = SystemClock().MonotonicNow();
};

// `written`: the last checkpoint's step; −1 when there is none.
absl::Status CheckLoss(const Objective& objective, int64_t step, double value, int64_t written) {
  if (std::isfinite(value)) return absl::OkStatus();
  if (step == 0) {
    return absl::FailedPreconditionError(fmt::format(
        "{}: the loss is {} before anything was trained: the weights that it starts from, or the parts that it is "
        "computed with, are broken",
        objective.name(), runtime::WithoutNanSign(value)));
  }
  return absl::FailedPreconditionError(fmt::format(
      "{}: the loss at step {} is {}; the last checkpoint is of step {}: lower the rates and go on from there",
      objective.name(), step, runtime::WithoutNanSign(value), written));
}

bool Reached(const TrainingLimit& limit, int64_t done_here) {
  return (limit.clock && limit.clock->MonotonicNow() >= limit.deadline) || done_here == limit.steps;
}

absl::Status LookAtAverage(Objective& objective, TrainingState& state) {
  state.SwapAverage();
  torch::NoGradGuard no_grad;
  LOUPE_ASSIGN_OR_RETURN(const std::string seen, objective.Look(state.steps()));
  state.SwapAverage();
  LogInfo("{} {}: {}", objective.name(), state.steps(), seen);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TrainingEnd> TrainNetwork(Objective& objective, const NetworkTraining& training,
                                         const std::string& fingerprint, const TrainingLimit& limit,
                                         const std::string& checkpoint) {
  TrainingState state = StateOf(objective.network(), training);
  LOUPE_ASSIGN_OR_RETURN(const bool resumed, Resume(state, fingerprint, checkpoint));
  if (resumed) LogInfo("{}: going on at step {} of {}", objective.name(), state.steps(), training.steps);
  const RateSchedule schedule = training.schedule();
  const int64_t begun = state.steps(), most_pending = MostPending(objective);
  int64_t written = resumed ? begun : -1;
  Progress progress(objective, training, limit);
  PendingLosses pending(begun);
  // Before anything is written: no checkpoint is made after a loss that was not finite.
  const auto read_losses = [&]() -> absl::Status {
    for (const auto& [step, values] : pending.Read()) {
      LOUPE_RETURN_IF_ERROR(CheckLoss(objective, step, values.at("loss"), written));
      progress.Add(values);
    }
    return absl::OkStatus();
  };
  const auto save = [&](bool look) -> absl::Status {
    LOUPE_RETURN_IF_ERROR(read_losses());
    progress.Log(state.steps());
    // Before the checkpoint: killed in between, the run does both again; the other way round the files would stay old.
    if (look) LOUPE_RETURN_IF_ERROR(LookAtAverage(objective, state));
    LOUPE_RETURN_IF_ERROR(Write(state, fingerprint, checkpoint));
    written = state.steps();
    return absl::OkStatus();
  };
  while (state.steps() < training.steps && !Reached(limit, state.steps() - begun)) {
    std::map<std::string, torch::Tensor> parts;
    const torch::Tensor loss = objective.Loss(state.steps(), parts);
    pending.Add(loss, std::move(parts));
    if (pending.size() >= most_pending) LOUPE_RETURN_IF_ERROR(read_losses());
    loss.backward();
    state.Step(schedule.FactorAt(state.steps()));
    state.ClearGradients();
    const bool last = state.steps() == training.steps;
    if (last || state.steps() % training.checkpoint_every == 0) {
      LOUPE_RETURN_IF_ERROR(save(last || state.steps() % training.look_every == 0));
    }
  }
  if (written != state.steps()) LOUPE_RETURN_IF_ERROR(save(/*look=*/true));
  state.SwapAverage();
  for (auto& parameter : objective.network().parameters()) parameter.set_requires_grad(false);
  return state.steps() >= training.steps ? TrainingEnd::kFinished : TrainingEnd::kPaused;
}

}  // namespace loupe::worker::train
