#include "bench/coordinator/http_load.h"

#include <chrono>
#include <cstdlib>

#include "fmt/format.h"

namespace loupe::bench {
namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

HttpLoad::HttpLoad(const HttpLoadOptions& options) : options_(options) {
  const testing::HttpHeaders bearer = {{"Authorization", "Bearer " + options_.token}};
  for (int i = 0; i < options_.streams; ++i) {
    streams_.push_back(std::make_unique<testing::EventReader>(options_.port, "/v1/sweeps/idle/events", bearer));
    if (streams_.back()->head().status != 200 || !streams_.back()->Next()) {
      fmt::print(stderr, "stream {}: status {}\n", i, streams_.back()->head().status);
      std::exit(1);
    }
  }
  if (options_.calls_per_second > 0) thread_ = std::thread([this] { Loop(); });
}

void HttpLoad::Loop() {
  testing::HttpConnection connection(options_.port);
  const testing::HttpHeaders headers = {{"Authorization", "Bearer " + options_.token},
                                        {"Content-Type", "application/json"}};
  const auto period =
      std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(1 / options_.calls_per_second));
  auto due = Clock::now();
  while (!stopping_) {
    std::this_thread::sleep_until(due);
    // From when it was due: a call that waits behind a late one is late too.
    const testing::HttpAnswer answer =
        connection.Fetch("POST", "/loupe.v1.SweepService/GetSweep", headers, R"({"name":"sweeps/load"})");
    if (answer.status != 200) ++outcome_.failed;
    outcome_.seconds.push_back(std::chrono::duration<double>(Clock::now() - due).count());
    due += period;
  }
}

HttpLoad::Outcome HttpLoad::Stop() {
  stopping_ = true;
  if (thread_.joinable()) thread_.join();
  for (const auto& stream : streams_)
    outcome_.open += stream->connection().IsClosedWithin(absl::ZeroDuration()) ? 0 : 1;
  return outcome_;
}

}  // namespace loupe::bench
