// A sweep's stream of states, read to its end across restarts of the coordinator.
#pragma once

#include <grpcpp/client_context.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "clients/rpc/connection.h"
#include "loupe/v1/sweep.pb.h"

namespace loupe::cli {

// A call that another thread may end. Thread-safe.
class CancelableContext {
 public:
  // For the next call; cancelled from the start after Cancel.
  grpc::ClientContext& Renew();
  void Cancel();

 private:
  std::mutex mutex_;
  std::unique_ptr<grpc::ClientContext> context_;
  bool cancelled_ = false;
};

class SweepFollower {
 public:
  struct Events {
    // On Run's thread: the state as it is now …
    std::function<void(const v1::WatchSweepResponse&)> on_state;
    // … and that the coordinator does not answer any more; once until it does again.
    std::function<void()> on_lost;
  };
  // `name`: "sweeps/a". `patience`: how long a coordinator that was there may be away.
  SweepFollower(const clients::rpc::Connection& connection, std::string name, absl::Duration patience, Events events)
      : connection_(connection), name_(std::move(name)), patience_(patience), events_(std::move(events)) {}

  // The sweep as it ended. CANCELLED after Cancel; else the stream's error, at once where no state has come yet.
  absl::StatusOr<v1::Sweep> Run();
  // From any thread.
  void Cancel();

 private:
  absl::Status FollowStream(std::optional<v1::Sweep>& last);
  bool cancelled();

  const clients::rpc::Connection& connection_;
  const std::string name_;
  const absl::Duration patience_;
  const Events events_;
  CancelableContext call_;
  std::mutex mutex_;
  bool cancelled_ = false;
};

}  // namespace loupe::cli
