#include "coordinator/api/work_pool.h"

#include <utility>

#include "common/guarded.h"

namespace loupe::coordinator::api {

WorkPool::WorkPool(int threads, size_t most_waiting) : most_waiting_(most_waiting) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Loop(); });
}

WorkPool::~WorkPool() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

bool WorkPool::Submit(const std::string& client, std::function<void()> job) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = waiting_.find(client);
    if (all_waiting_ >= 16 * most_waiting_ || (found != waiting_.end() && found->second.size() >= most_waiting_))
      return false;
    if (found == waiting_.end()) turns_.push_back(client);
    waiting_[client].push_back(std::move(job));
    ++all_waiting_;
  }
  changed_.notify_one();
  return true;
}

void WorkPool::Loop() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !turns_.empty(); });
    if (turns_.empty()) return;
    const auto client = waiting_.find(turns_.front());
    turns_.pop_front();
    std::function<void()> job = std::move(client->second.front());
    client->second.pop_front();
    --all_waiting_;
    if (client->second.empty()) {
      waiting_.erase(client);
    } else {
      turns_.push_back(client->first);
    }
    lock.unlock();
    GuardedTurn("work for a client", job);
    // What it holds goes while nobody waits for the lock.
    job = nullptr;
    lock.lock();
  }
}

}  // namespace loupe::coordinator::api
