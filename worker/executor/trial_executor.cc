#include "worker/executor/trial_executor.h"

#include <torch/types.h>

#include <atomic>
#include <optional>
#include <utility>

#include "absl/strings/str_split.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/base/model_store.h"
#include "worker/executor/pack.h"
#include "worker/executor/work_meter.h"
#include "worker/io/base_folder.h"
#include "worker/methods/method_registry.h"
#include "worker/ranks/step_hub.h"
#include "worker/runtime/cuda_graph.h"
#include "worker/runtime/device.h"
#include "worker/tasks/shared_inputs.h"
#include "worker/tasks/task_registry.h"

namespace loupe::worker::executor {
namespace {

class OneAttempt : public PackFeed {
 public:
  explicit OneAttempt(HeardAttempt attempt) : attempt_(std::move(attempt)) {}
  std::optional<HeardAttempt> Next() override { return std::exchange(attempt_, std::nullopt); }
  void Finish(const HeardAttempt&, AttemptOutcome outcome) override { outcome_ = std::move(outcome); }
  AttemptOutcome TakeOutcome() { return std::move(outcome_); }

 private:
  std::optional<HeardAttempt> attempt_;
  AttemptOutcome outcome_;
};

class TrialExecutor : public Executor {
 public:
  TrialExecutor(torch::Device device, const TrialExecutorOptions& options, RankOptions ranks)
      : ranks_(std::move(ranks)),
        shares_passes_(options.passes == TrialExecutorOptions::Passes::kByDevice
                           ? !device.is_cpu()
                           : options.passes == TrialExecutorOptions::Passes::kShared),
        room_(options.slots, device),
        models_(device, options.graphs ? runtime::MakeCudaGraphs(device) : nullptr),
        inputs_(models_, tasks::TensorCache(options.cache_folder)),
        tasks_(inputs_) {}

  AttemptOutcome Run(const AttemptSpec& spec, AttemptObserver& observer) override {
    OneAttempt feed({spec, &observer});
    RunPack(feed);
    return feed.TakeOutcome();
  }

  void RunPack(PackFeed& feed) override {
    Pack({.models = &models_,
          .inputs = &inputs_,
          .tasks = &tasks_,
          .room = &room_,
          .meter = &meter_,
          .shares_passes = shares_passes_,
          .ranks = &ranks_,
          .begin = [this] { ForgetWhatChanged(); },
          .stale = [this] { return read_anew_ || models_.Changed(); }},
         feed)
        .Run();
  }

  int32_t PackSlots() const override { return room_.slots(); }

  WorkDone Work() const override { return meter_.Read(); }

  std::string WhyUnable() const override { return ranks_.step == nullptr ? "" : ranks_.step->WhyUnable(); }

  std::string DeviceDescription() const override { return runtime::DescribeDevice(models_.device()); }

  WorkerAbilities Abilities() const override {
    WorkerAbilities abilities;
    for (const io::BaseKind kind : io::kBaseKinds) abilities.bases.emplace_back(io::DenoiserClass(kind));
    abilities.methods.clear();
    for (const methods::MethodTraits& method : methods::Methods()) abilities.methods.push_back(method.name);
    abilities.tasks = tasks::TaskNames();
    abilities.half_precisions = runtime::HalfPrecisions(models_.device());
    for (const std::string& device : ranks_.devices) {
      abilities.devices.push_back(runtime::DescribeDevice(runtime::ParseDevice(device).value_or(models_.device())));
    }
    return abilities;
  }

  void ReadInputsAnew() override { read_anew_ = true; }

 private:
  // An attempt sees one state of base and scorers, from its start to its end.
  void ForgetWhatChanged() {
    if (read_anew_.exchange(false)) {
      models_.ForgetAll();
    } else if (!models_.ForgetChanged()) {
      return;
    }
    tasks_.Forget();
  }

  const RankOptions ranks_;
  const bool shares_passes_;
  std::atomic<bool> read_anew_{false};
  PackRoom room_;
  WorkMeter meter_;
  base::ModelStore models_;
  tasks::SharedInputs inputs_;
  tasks::Tasks tasks_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Executor>> MakeTrialExecutor(const TrialExecutorOptions& options) {
  RankOptions ranks{.devices = absl::StrSplit(options.device, ','),
                    .threads = options.threads,
                    .cache_folder = options.cache_folder,
                    .program = options.rank_program,
                    .step = options.step};
  if (options.step != nullptr) {
    ranks.devices.assign(static_cast<size_t>(options.step->tasks()), ranks.devices.front());
  }
  LOUPE_ASSIGN_OR_RETURN(const torch::Device device, runtime::PrepareDevice(ranks.devices.front(), options.threads));
  for (const std::string& other : ranks.devices) {
    LOUPE_ASSIGN_OR_RETURN(const torch::Device its, runtime::ParseDevice(other));
    if (its.type() != device.type()) {
      return absl::InvalidArgumentError(
          fmt::format("'{}': the ranks of one trial are on devices of one kind", options.device));
    }
  }
  // One network at a time: a second pool of threads would only compete with the first.
  if (options.threads > 0 && at::get_num_interop_threads() != 1) at::set_num_interop_threads(1);
  return std::unique_ptr<Executor>(new TrialExecutor(device, options, std::move(ranks)));
}

}  // namespace loupe::worker::executor
