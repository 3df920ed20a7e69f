// The engine on its own thread, and the queue in front of it. Requests that arrive while one batch is being committed
// form the next one: that is the group commit.
#pragma once

#include <condition_variable>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/guarded.h"
#include "coordinator/engine/engine.h"

namespace loupe::coordinator::engine {

// Thread-safe. Submit never blocks; replies run on the engine's thread and must be quick.
class EngineThread {
 public:
  // `engine` has recovered and is used by nobody else from now on; it outlives this.
  EngineThread(Engine& engine, const Clock& clock);
  // Stops after the current batch and answers what is left with UNAVAILABLE.
  ~EngineThread();

  void Submit(EngineInput input);
  // Runs between batches.
  void Post(std::function<void(Engine&)> task);

  // Decides on the engine's thread, waits until the effects are durable, and returns the decision; what an exception
  // that cut it off means, as guarded.h says. Not from the engine's thread.
  template <typename T>
  absl::StatusOr<T> Call(
      std::function<absl::StatusOr<T>(scheduler::Scheduler&, const scheduler::Now&, scheduler::Effects&)> decide) {
    auto promise = std::make_shared<std::promise<absl::StatusOr<T>>>();
    std::future<absl::StatusOr<T>> future = promise->get_future();
    const auto cut_off = std::make_shared<absl::Status>();
    Submit(Job([decide = std::move(decide), promise = std::move(promise), cut_off](
                   scheduler::Scheduler& scheduler, const scheduler::Now& now, scheduler::Effects& effects) -> Reply {
      try {
        return [promise, decision = decide(scheduler, now, effects)](const absl::Status& durable) {
          promise->set_value(durable.ok() ? decision : absl::StatusOr<T>(durable));
        };
      } catch (...) {
        *cut_off = StatusOfException();
        throw;
      }
    }));
    try {
      return future.get();
    } catch (const std::future_error&) {
      // The job is gone without an answer.
      return cut_off->ok() ? absl::ResourceExhaustedError("the coordinator is short of memory: try again") : *cut_off;
    }
  }

 private:
  void Loop();

  Engine& engine_;
  const Clock& clock_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<EngineInput> inputs_;
  std::vector<std::function<void(Engine&)>> tasks_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace loupe::coordinator::engine
