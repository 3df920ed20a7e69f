// One WatchSweep stream: passes on the engine's updates, always the latest when the client is slow.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <memory>
#include <mutex>
#include <optional>

#include "absl/status/statusor.h"
#include "coordinator/service/engine.h"
#include "coordinator/service/open_calls.h"
#include "coordinator/service/plan_cache.h"
#include "loupe/v1/sweep.pb.h"

namespace loupe::coordinator {

// Thread-safe: updates come from the engine's thread, the rest from gRPC's. Keeps itself alive until the call is done.
class WatchReactor final : public grpc::ServerWriteReactor<v1::WatchSweepResponse>,
                           public std::enable_shared_from_this<WatchReactor> {
 public:
  static std::shared_ptr<WatchReactor> Start(PlanCache& plans);
  // Before the first update; not for a caller that was not admitted.
  void SetOpen(std::unique_ptr<OpenCall> open) {
    const std::lock_guard<std::mutex> lock(mutex_);
    open_ = std::move(open);
  }

  // Sends it, or keeps it until the write that is under way is done. False when no more are wanted.
  bool Update(absl::StatusOr<WatchUpdate> update);
  void End(const absl::Status& status);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  explicit WatchReactor(PlanCache& plans) : plans_(plans) {}
  void Fill(const WatchUpdate& update, v1::WatchSweepResponse& response) const;
  // With the lock held; starts the next write or finishes.
  void Advance();

  PlanCache& plans_;
  std::unique_ptr<OpenCall> open_;
  std::mutex mutex_;
  std::shared_ptr<WatchReactor> self_;
  v1::WatchSweepResponse sending_;
  std::optional<v1::WatchSweepResponse> next_;
  std::optional<absl::Status> end_;
  bool writing_ = false;
  bool finished_ = false;
};

}  // namespace loupe::coordinator
