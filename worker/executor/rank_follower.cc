#include "worker/executor/rank_follower.h"

#include <torch/types.h>

#include "common/atomic_file.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/base/model_store.h"
#include "worker/executor/attached_adapter.h"
#include "worker/executor/rank_team.h"
#include "worker/executor/trial.h"
#include "worker/methods/method_registry.h"
#include "worker/ranks/step_hub.h"
#include "worker/runtime/device.h"
#include "worker/tasks/shared_inputs.h"
#include "worker/tasks/task_registry.h"

namespace loupe::worker::executor {
namespace {

// Rank 0 is the one that is heard of.
class Silence : public AttemptObserver {
 public:
  void OnProgress(std::string_view, int64_t, int64_t) override {}
  void OnMetric(std::string_view, int64_t, double) override {}
  absl::Status OnArtifact(std::string_view, std::string_view, const std::string&) override { return absl::OkStatus(); }
  bool ShouldStop() const override { return false; }
};

void Follow(const RankJob& job, const ranks::RankGroup::Options& place) {
  const torch::Device device = place.device;
  base::ModelStore models(device);
  tasks::SharedInputs inputs(models, tasks::TensorCache(job.options.cache_folder));
  tasks::Tasks tasks(inputs);
  Silence silence;
  WorkMeter meter;
  Trial trial({job.spec, &silence}, models, inputs, tasks, meter, [] {});
  base::BaseModel& base = trial.base();
  const methods::SlotOptions method = trial.method_options();
  train::Trainer trainer(
      base, [&](const std::vector<size_t>&) { return methods::MakeMethod(SitesOf(base), {method}, device); },
      std::vector<train::TrainSlot>());
  ranks::SayReady(place);
  ranks::RankGroup group(place);
  trial.Follow(trainer, group);
}

}  // namespace

absl::Status FollowRank(const std::string& job_file, int rank, const StepRank& step) {
  LOUPE_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(job_file));
  LOUPE_ASSIGN_OR_RETURN(const RankJob job, DecodeJob(bytes));
  const int ranks = job.ranks();
  if (rank < 1 || rank >= ranks || ranks > static_cast<int>(job.options.devices.size())) {
    return absl::InvalidArgumentError(fmt::format("rank {} of {} is none", rank, ranks));
  }
  const std::string& name = step.file.empty() ? job.options.devices[static_cast<size_t>(rank)] : step.device;
  LOUPE_ASSIGN_OR_RETURN(const torch::Device device, runtime::PrepareDevice(name, job.options.threads));
  try {
    ranks::RankGroup::Options place{.meeting_file = job.meeting_file};
    if (!step.file.empty()) place = ranks::JoinStep(step.file, rank, step.job_number);
    place.rank = rank;
    place.ranks = ranks;
    place.device = device;
    Follow(job, place);
  } catch (const c10::Error& error) {
    return absl::InternalError(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return absl::InternalError(error.what());
  }
  return absl::OkStatus();
}

}  // namespace loupe::worker::executor
