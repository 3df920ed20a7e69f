#include "worker/executor/trial_executor.h"

#include <torch/types.h>

#include <atomic>
#include <exception>
#include <utility>

#include "common/status_macros.h"
#include "fmt/format.h"
#include "spdlog/spdlog.h"
#include "worker/base/model_store.h"
#include "worker/executor/trial.h"
#include "worker/methods/method_registry.h"
#include "worker/runtime/device.h"
#include "worker/runtime/finite.h"
#include "worker/runtime/user_error.h"
#include "worker/tasks/shared_inputs.h"
#include "worker/tasks/task_registry.h"

namespace loupe::worker {
namespace {

AttemptOutcome Failure(FailureClass failure_class, std::string message) {
  AttemptOutcome outcome;
  outcome.kind = AttemptOutcome::Kind::kFailure;
  outcome.failure_class = failure_class;
  outcome.failure_message = std::move(message);
  return outcome;
}

// LibTorch's messages: the first line is the sentence, the rest is where in LibTorch it was raised.
std::string FirstLine(const std::string& text) { return text.substr(0, text.find('\n')); }

class TrialExecutor : public Executor {
 public:
  TrialExecutor(torch::Device device, const std::string& cache_folder)
      : models_(device), inputs_(models_, TensorCache(cache_folder)), tasks_(inputs_) {}

  AttemptOutcome Run(const AttemptSpec& spec, AttemptObserver& observer) override {
    try {
      ForgetWhatChanged();
      return RunTrial(spec, observer, models_, inputs_, tasks_);
    } catch (const Stopped&) {
      AttemptOutcome outcome;
      outcome.kind = AttemptOutcome::Kind::kStopped;
      return outcome;
    } catch (const UserError& error) {
      return Failure(FailureClass::kUserError, FirstLine(error.what()));
    } catch (const NotFinite& error) {
      return Failure(FailureClass::kUserError, FirstLine(error.what()));
    } catch (const c10::OutOfMemoryError& error) {
      return Failure(FailureClass::kRetryable,
                     fmt::format("out of memory on the GPU ({}); a smaller budget.batch or sample.chunk needs less",
                                 FirstLine(error.what_without_backtrace())));
    } catch (const c10::Error& error) {
      return Failure(FailureClass::kRetryable, FirstLine(error.what_without_backtrace()));
    } catch (const std::bad_alloc&) {
      return Failure(FailureClass::kRetryable, "out of memory; a smaller budget.batch or sample.chunk needs less");
    } catch (const std::exception& error) {
      return Failure(FailureClass::kRetryable, FirstLine(error.what()));
    }
  }

  std::string DeviceDescription() const override { return DescribeDevice(models_.device()); }

  WorkerAbilities Abilities() const override {
    WorkerAbilities abilities{.bases = {"UNet2DConditionModel"}};
    abilities.methods.clear();
    for (const MethodTraits& method : Methods()) abilities.methods.push_back(method.name);
    abilities.tasks = TaskNames();
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

  std::atomic<bool> read_anew_{false};
  ModelStore models_;
  SharedInputs inputs_;
  Tasks tasks_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Executor>> MakeTrialExecutor(const TrialExecutorOptions& options) {
  LOUPE_ASSIGN_OR_RETURN(const torch::Device device, PrepareDevice(options.device, options.threads));
  // One network at a time: a second pool of threads would only compete with the first.
  if (options.threads > 0) at::set_num_interop_threads(1);
  return std::unique_ptr<Executor>(new TrialExecutor(device, options.cache_folder));
}

}  // namespace loupe::worker
