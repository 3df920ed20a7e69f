// One WatchSweep stream by gRPC: passes on the sweep's news, always the latest when the client is slow.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <memory>
#include <mutex>
#include <optional>

#include "absl/status/statusor.h"
#include "coordinator/access/open_calls.h"
#include "coordinator/api/sweep_api.h"
#include "loupe/v1/sweep.pb.h"

namespace loupe::coordinator::rpc {

// Thread-safe: updates come from the engine's thread, the rest from gRPC's. Keeps itself alive until the call is done.
class WatchReactor final : public grpc::ServerWriteReactor<v1::WatchSweepResponse>,
                           public std::enable_shared_from_this<WatchReactor> {
 public:
  static std::shared_ptr<WatchReactor> Start();
  // Before the first update; not for a caller that was not admitted.
  void SetOpen(std::unique_ptr<access::OpenCall> open) {
    const std::lock_guard<std::mutex> lock(mutex_);
    open_ = std::move(open);
  }

  // Sends it, or keeps it until the write that is under way is done. False when no more are wanted.
  bool Update(absl::StatusOr<api::SweepApi::News> news);
  void End(const absl::Status& status);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  WatchReactor() = default;
  // With the lock held; starts the next write or finishes.
  void Advance();

  std::unique_ptr<access::OpenCall> open_;
  std::mutex mutex_;
  std::shared_ptr<WatchReactor> self_;
  v1::WatchSweepResponse sending_;
  std::optional<v1::WatchSweepResponse> next_;
  std::optional<absl::Status> end_;
  bool writing_ = false;
  bool finished_ = false;
};

}  // namespace loupe::coordinator::rpc
