// Reads a sweep's scores beside its stream of states, on a thread of its own.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cli/sweep_follower.h"
#include "cli/sweep_scores.h"

namespace loupe::cli {

// All trials' scores. NOT_FOUND, UNIMPLEMENTED (a coordinator that is older than ViewService), …
absl::StatusOr<SweepScores> ReadSweepScores(const clients::rpc::Connection& connection, const std::string& sweep_name,
                                            CancelableContext& call);

// Thread-safe. The connection outlives it.
class ScoreReader {
 public:
  ScoreReader(const clients::rpc::Connection& connection, std::string sweep_name);
  ~ScoreReader();
  ScoreReader(const ScoreReader&) = delete;
  ScoreReader& operator=(const ScoreReader&) = delete;

  // So many trials have succeeded: read when that is another number than before, at most every two seconds, and never
  // more than a twentieth of the time (a sweep of a million trials is fifty answers).
  void Want(int64_t succeeded);
  // Null until they have been read.
  std::shared_ptr<const SweepScores> scores() const;
  // Once more, for the last state, waited for. What was read before where that fails.
  std::shared_ptr<const SweepScores> ReadLast();

 private:
  void Loop();
  void Stop();

  const clients::rpc::Connection& connection_;
  const std::string sweep_name_;
  CancelableContext call_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<const SweepScores> scores_;
  int64_t wanted_ = 0;
  int64_t read_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace loupe::cli
