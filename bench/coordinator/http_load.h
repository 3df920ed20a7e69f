// Browsers beside the workers: streams of events that are open, and JSON calls at a steady rate.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/testing/http_client.h"

namespace loupe::bench {

struct HttpLoadOptions {
  int port = 0;
  std::string token;
  // Of the sweep "idle", in which nothing happens.
  int streams = 0;
  // GetSweep of the sweep "load", from one connection.
  double calls_per_second = 0;
};

class HttpLoad {
 public:
  // Opens the streams, each with its first event, then begins to call. Ends the process where one cannot be opened.
  explicit HttpLoad(const HttpLoadOptions& options);

  struct Outcome {
    std::vector<double> seconds;
    int failed = 0;
    // Streams that are still open.
    int open = 0;
  };
  // Ends the calls.
  Outcome Stop();

 private:
  void Loop();

  const HttpLoadOptions options_;
  std::vector<std::unique_ptr<testing::EventReader>> streams_;
  std::atomic<bool> stopping_{false};
  Outcome outcome_;
  std::thread thread_;
};

}  // namespace loupe::bench
