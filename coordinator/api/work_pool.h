// The threads on which calls are served: few, shared fairly among the clients, with a bounded queue in front.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace loupe::coordinator::api {

// Thread-safe. Clients take turns: one with a thousand jobs waiting delays another's by one job a thread.
class WorkPool {
 public:
  // `most_waiting`: jobs of one client that may wait; 16 times as many of all together.
  WorkPool(int threads, size_t most_waiting);
  // Runs what waits, then ends.
  ~WorkPool();

  // False, and `job` is not kept, when too many wait. An exception that leaves a job is logged and answers nobody:
  // what belongs to a call goes through RunOnPool (calls.h).
  bool Submit(const std::string& client, std::function<void()> job);

 private:
  void Loop();

  const size_t most_waiting_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::deque<std::function<void()>>> waiting_;
  // Clients with jobs, whose turn is next in front.
  std::list<std::string> turns_;
  size_t all_waiting_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace loupe::coordinator::api
