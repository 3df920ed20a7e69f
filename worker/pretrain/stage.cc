#include "worker/pretrain/stage.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <utility>
#include <vector>

#include "common/seed.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "spdlog/spdlog.h"
#include "worker/io/safetensors.h"
#include "worker/models/weights.h"
#include "worker/runtime/finite.h"
#include "worker/train/running_average.h"

namespace loupe::worker {
namespace {

constexpr char kNetworkPrefix[] = "network.";
constexpr char kAveragePrefix[] = "average.";
constexpr char kOptimiserPrefix[] = "optimiser.";
constexpr char kDigestKey[] = "arrays_sha256";

// The network's weights, their average and the momenta, as one set of named tensors.
class TrainingState {
 public:
  TrainingState(Stage& stage, const StageSchedule& schedule) : optimiser(Trainable(stage.network()), schedule.rates) {
    torch::NoGradGuard no_grad;
    const auto parameters = stage.network().named_parameters();
    for (const auto& item : parameters) weights_.push_back(item.value());
    average_ = RunningAverage(weights_);
    for (size_t i = 0; i < weights_.size(); ++i) {
      tensors_[kNetworkPrefix + parameters[i].key()] = weights_[i];
      tensors_[kAveragePrefix + parameters[i].key()] = average_.averages()[i];
    }
    for (auto& [name, tensor] : optimiser.State()) tensors_[kOptimiserPrefix + name] = tensor;
  }

  void Average(double decay, int64_t step) { average_.Update(weights_, decay, step); }

  // Weights and averages change places; twice is as before.
  void Swap() { average_.Swap(weights_); }

  // With a digest of the arrays. FAILED_PRECONDITION when a value is not finite: nothing could go on from it.
  absl::Status Write(const std::string& path, Metadata metadata) const {
    for (const auto& [name, tensor] : tensors_) {
      if (const std::string found = DescribeNotFinite(tensor); !found.empty()) {
        return absl::FailedPreconditionError(fmt::format(
            "'{}' after step {}: {}; {} still has the checkpoint before it: lower the rates and go on from there", name,
            metadata["step"], found, path));
      }
    }
    const TensorArrays written = ToArrays(tensors_);
    metadata[kDigestKey] = DigestOfArrays(written.views);
    return WriteSafetensors(path, written.views, metadata);
  }

  absl::Status Read(const SafetensorsFile& file) {
    // Checkpoints of earlier versions have none.
    const auto digest = file.metadata().find(kDigestKey);
    if (digest != file.metadata().end() && digest->second != DigestOfArrays(file.arrays())) {
      return absl::DataLossError(fmt::format(
          "{}: its arrays do not have the digest that it names: it is damaged; remove it to begin this part anew",
          file.path()));
    }
    for (const auto& [name, tensor] : tensors_) {
      const auto found = file.arrays().find(name);
      if (found == file.arrays().end() || at::IntArrayRef(found->second.shape) != tensor.sizes()) {
        return absl::InvalidArgumentError(fmt::format(
            "{}: '{}' is missing or has another shape than the config's network; start with a new --out, or "
            "go on with the config that this run began with",
            file.path(), name));
      }
    }
    torch::NoGradGuard no_grad;
    for (auto& [name, tensor] : tensors_) tensor.copy_(ToTensor(file.arrays().at(name)));
    return absl::OkStatus();
  }

  MuonAdamW optimiser;

 private:
  static const torch::nn::Module& Trainable(torch::nn::Module& network) {
    torch::NoGradGuard no_grad;
    for (auto& parameter : network.parameters()) {
      // Convolutions are 1.2–1.3 times as fast so; what is loaded into them later keeps the layout.
      if (parameter.dim() == 4) parameter.set_data(parameter.contiguous(torch::MemoryFormat::ChannelsLast));
      parameter.set_requires_grad(true);
    }
    return network;
  }

  std::vector<torch::Tensor> weights_;
  RunningAverage average_;
  std::map<std::string, torch::Tensor> tensors_;
};

Metadata Describe(const Stage& stage, uint64_t seed, int64_t step) {
  return {{"stage", stage.name()}, {"seed", fmt::format("{}", seed)}, {"step", fmt::format("{}", step)}};
}

// The number of steps that the checkpoint's state has seen.
absl::StatusOr<int64_t> Resume(const Stage& stage, uint64_t seed, const std::string& path, TrainingState& state) {
  LOUPE_ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Open(path));
  Metadata found = file.metadata();
  for (const auto& [key, value] : Describe(stage, seed, 0)) {
    if (key != "step" && found[key] != value) {
      return absl::InvalidArgumentError(fmt::format(
          "{}: made with {} '{}', but this run's is '{}'; start with a new --out", path, key, found[key], value));
    }
  }
  LOUPE_RETURN_IF_ERROR(state.Read(file));
  return std::strtoll(found["step"].c_str(), nullptr, 10);
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
int64_t MostPending(Stage& stage) { return stage.network().parameters().front().is_cuda() ? 32 : 1; }

// Means since the last line, and the time that is left.
class Progress {
 public:
  Progress(const Stage& stage, const StageSchedule& schedule, const StageLimit& limit)
      : stage_(stage), schedule_(schedule), limit_(limit) {}

  void Add(const std::map<std::string, double>& values) {
    for (const auto& [name, value] : values) sums_[name] += value;
    ++count_;
  }

  void Log(int64_t done) {
    if (count_ == 0) return;
    const absl::Duration now = SystemClock().MonotonicNow();
    const double each = absl::ToDoubleSeconds(now - since_) / static_cast<double>(count_);
    double left = each * static_cast<double>(schedule_.steps - done);
    if (limit_.clock) left = std::min(left, absl::ToDoubleSeconds(limit_.deadline - limit_.clock->MonotonicNow()));
    std::string means;
    for (const auto& [name, sum] : sums_) means += fmt::format(" {} {:.4f}", name, sum / static_cast<double>(count_));
    spdlog::info("{} {}/{}{}, {:.3f} s a step, {:.0f} min left", stage_.name(), done, schedule_.steps, means, each,
                 std::max(0.0, left) / 60);
    sums_.clear();
    count_ = 0;
    since_ = now;
  }

 private:
  const Stage& stage_;
  const StageSchedule& schedule_;
  const StageLimit& limit_;
  std::map<std::string, double> sums_;
  int64_t count_ = 0;
  absl::Duration since_ = SystemClock().MonotonicNow();
};

// `written`: the last checkpoint's step; −1 when there is none.
absl::Status CheckLoss(const Stage& stage, int64_t step, double value, int64_t written) {
  if (std::isfinite(value)) return absl::OkStatus();
  if (step == 0) {
    return absl::FailedPreconditionError(fmt::format(
        "{}: the loss is {} before anything was trained: the weights that it starts from, or the parts that it is "
        "computed with, are broken",
        stage.name(), value));
  }
  return absl::FailedPreconditionError(fmt::format(
      "{}: the loss at step {} is {}; the last checkpoint is of step {}: lower the rates and go on from there",
      stage.name(), step, value, written));
}

bool Reached(const StageLimit& limit, int64_t done_here) {
  return (limit.clock && limit.clock->MonotonicNow() >= limit.deadline) || done_here == limit.steps;
}

absl::Status LookAtAverage(Stage& stage, TrainingState& state, int64_t step) {
  state.Swap();
  torch::NoGradGuard no_grad;
  LOUPE_ASSIGN_OR_RETURN(const std::string seen, stage.Look(step));
  state.Swap();
  spdlog::info("{} {}: {}", stage.name(), step, seen);
  return absl::OkStatus();
}

}  // namespace

double RateFactor(const StageSchedule& schedule, int64_t step) {
  const double up = static_cast<double>(step + 1) / static_cast<double>(std::max<int64_t>(1, schedule.warm_up));
  const double tail = schedule.decay * static_cast<double>(schedule.steps);
  const double down = tail > 0 ? static_cast<double>(schedule.steps - step) / tail : 1.0;
  return std::clamp(std::min(up, down), 0.0, 1.0);
}

at::Generator StepGenerator(uint64_t seed, int64_t step, const std::string& purpose) {
  return at::make_generator<at::CPUGeneratorImpl>(DeriveSeed(seed, step, "pretrain/" + purpose));
}

torch::Tensor BatchRows(uint64_t seed, const std::string& stage, int64_t step, int64_t batch, int64_t items) {
  std::vector<torch::Tensor> parts;
  int64_t at = step * batch, left = batch;
  while (left > 0) {
    auto random = StepGenerator(seed, at / items, stage + "/order");
    const auto order = torch::randperm(items, random, torch::kInt64);
    const int64_t begin = at % items, count = std::min(left, items - begin);
    parts.push_back(order.slice(0, begin, begin + count));
    at += count;
    left -= count;
  }
  return torch::cat(parts);
}

void ZeroLastLayers(torch::nn::Module& network, const std::vector<std::string>& endings) {
  torch::NoGradGuard no_grad;
  for (auto& item : network.named_parameters()) {
    for (const std::string& ending : endings) {
      if (item.key().ends_with(ending + ".weight") || item.key().ends_with(ending + ".bias")) item.value().zero_();
    }
  }
}

absl::StatusOr<StageEnd> RunStage(Stage& stage, const StageSchedule& schedule, uint64_t seed, const StageLimit& limit,
                                  const std::string& checkpoint) {
  TrainingState state(stage, schedule);
  int64_t done = 0, written = -1;
  if (std::filesystem::exists(checkpoint)) {
    LOUPE_ASSIGN_OR_RETURN(done, Resume(stage, seed, checkpoint, state));
    written = done;
    spdlog::info("{}: going on at step {} of {}", stage.name(), done, schedule.steps);
  }
  const int64_t begun = done;
  Progress progress(stage, schedule, limit);
  PendingLosses pending(done);
  const int64_t most_pending = MostPending(stage);
  // Before anything is written: no checkpoint is made after a loss that was not finite.
  const auto read_losses = [&]() -> absl::Status {
    for (const auto& [step, values] : pending.Read()) {
      LOUPE_RETURN_IF_ERROR(CheckLoss(stage, step, values.at("loss"), written));
      progress.Add(values);
    }
    return absl::OkStatus();
  };
  while (done < schedule.steps && !Reached(limit, done - begun)) {
    state.optimiser.ZeroGrad();
    std::map<std::string, torch::Tensor> parts;
    const torch::Tensor loss = stage.Loss(done, parts);
    pending.Add(loss, std::move(parts));
    if (pending.size() >= most_pending) LOUPE_RETURN_IF_ERROR(read_losses());
    loss.backward();
    state.optimiser.Step(done, RateFactor(schedule, done));
    state.Average(schedule.average, done);
    ++done;
    if (done % schedule.checkpoint_every == 0 || done == schedule.steps) {
      LOUPE_RETURN_IF_ERROR(read_losses());
      progress.Log(done);
      // Before the checkpoint: killed in between, the run does both again; the other way round the files would stay
      // old.
      if (done % schedule.look_every == 0 || done == schedule.steps) {
        LOUPE_RETURN_IF_ERROR(LookAtAverage(stage, state, done));
      }
      LOUPE_RETURN_IF_ERROR(state.Write(checkpoint, Describe(stage, seed, done)));
      written = done;
    }
  }
  state.optimiser.ZeroGrad();
  if (written != done) {
    LOUPE_RETURN_IF_ERROR(read_losses());
    progress.Log(done);
    LOUPE_RETURN_IF_ERROR(LookAtAverage(stage, state, done));
    LOUPE_RETURN_IF_ERROR(state.Write(checkpoint, Describe(stage, seed, done)));
  }
  state.Swap();
  for (auto& parameter : stage.network().parameters()) parameter.set_requires_grad(false);
  return done >= schedule.steps ? StageEnd::kFinished : StageEnd::kPaused;
}

}  // namespace loupe::worker
