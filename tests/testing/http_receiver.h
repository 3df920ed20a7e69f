// A server that keeps what is posted to it: the other end of a webhook.
#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"

namespace loupe::testing {

struct ReceivedPost {
  std::string target;
  // Names in lower case.
  std::map<std::string, std::string> headers;
  std::string body;
};

// Thread-safe. Listens on a free port of this machine.
class HttpReceiver {
 public:
  // Answers with these statuses in turn, then with 204; with 0 not at all, while it lives.
  explicit HttpReceiver(std::deque<int> statuses = {});
  ~HttpReceiver();

  int port() const { return port_; }
  // The first `count`, or fewer within `wait`.
  std::vector<ReceivedPost> Wait(size_t count, absl::Duration wait = absl::Seconds(10));

 private:
  void Loop();
  // False: left without an answer.
  bool Serve(int connection);

  int socket_ = -1;
  int port_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<int> statuses_;
  std::vector<ReceivedPost> received_;
  std::vector<int> unanswered_;
  std::thread thread_;
};

// Takes connections and says nothing.
class SilentListener {
 public:
  SilentListener();
  ~SilentListener();
  int port() const { return port_; }

 private:
  int port_ = 0;
  int socket_ = -1;
};

}  // namespace loupe::testing
