#include "coordinator/engine/engine_thread.h"

#include <algorithm>
#include <chrono>

#include "common/logging.h"

namespace loupe::coordinator::engine {
namespace {

// Bounds one transaction, and so the wait of the first request in it.
constexpr size_t kMaxBatch = 2048;
constexpr absl::Duration kMaxIdle = absl::Seconds(60);
constexpr std::chrono::milliseconds kPause{10};

void Log(const absl::Status& status) {
  if (!status.ok()) LogError("the engine met an exception: {}", std::string(status.message()));
}

}  // namespace

EngineThread::EngineThread(Engine& engine, const Clock& clock)
    : engine_(engine), clock_(clock), thread_([this] { Loop(); }) {}

EngineThread::~EngineThread() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void EngineThread::Submit(EngineInput input) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    inputs_.push_back(std::move(input));
  }
  changed_.notify_one();
}

void EngineThread::Post(std::function<void(Engine&)> task) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  changed_.notify_one();
}

void EngineThread::Loop() {
  while (true) {
    std::vector<EngineInput> batch;
    std::vector<std::function<void(Engine&)>> tasks;
    bool stopping = false;
    const absl::Status taken = Guarded([&] {
      std::unique_lock<std::mutex> lock(mutex_);
      const absl::Duration wait =
          std::clamp(engine_.NextDeadline() - clock_.MonotonicNow(), absl::ZeroDuration(), kMaxIdle);
      changed_.wait_for(lock, absl::ToChronoNanoseconds(wait),
                        [this] { return stopping_ || !inputs_.empty() || !tasks_.empty(); });
      const auto end = inputs_.begin() + static_cast<std::ptrdiff_t>(std::min(inputs_.size(), kMaxBatch));
      batch.assign(std::make_move_iterator(inputs_.begin()), std::make_move_iterator(end));
      inputs_.erase(inputs_.begin(), end);
      tasks.swap(tasks_);
      stopping = stopping_ && inputs_.empty();
    });
    // Memory for the batch itself: what waits goes on waiting.
    if (!taken.ok()) std::this_thread::sleep_for(kPause);
    for (const auto& task : tasks) Log(Guarded([&] { task(engine_); }));
    Log(Guarded([&] { engine_.Process(batch); }));
    if (stopping) break;
  }
  engine_.CancelAll();
}

}  // namespace loupe::coordinator::engine
