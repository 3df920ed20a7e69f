#include "coordinator/rpc/watch_reactor.h"

#include <utility>

#include "coordinator/rpc/grpc_status.h"

namespace loupe::coordinator::rpc {

std::shared_ptr<WatchReactor> WatchReactor::Start() {
  std::shared_ptr<WatchReactor> reactor(new WatchReactor());
  reactor->self_ = reactor;
  return reactor;
}

bool WatchReactor::Update(absl::StatusOr<api::SweepApi::News> news) {
  if (!news.ok()) {
    End(news.status());
    return false;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  if (finished_ || end_) return false;
  next_ = std::move(news->message);
  if (news->last) end_ = absl::OkStatus();
  Advance();
  return !end_;
}

void WatchReactor::End(const absl::Status& status) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!end_) end_ = status;
  Advance();
}

void WatchReactor::Advance() {
  if (writing_ || finished_) return;
  if (next_) {
    sending_ = *std::exchange(next_, std::nullopt);
    writing_ = true;
    if (open_ != nullptr) open_->AwaitClient();
    StartWrite(&sending_);
  } else if (end_) {
    finished_ = true;
    if (open_ != nullptr) open_->AwaitClient();
    Finish(ToGrpcStatus(*end_));
  }
}

void WatchReactor::OnWriteDone(bool ok) {
  const std::lock_guard<std::mutex> lock(mutex_);
  writing_ = false;
  if (open_ != nullptr) open_->ClientMoved();
  if (!ok) {
    next_.reset();
    end_ = absl::CancelledError("the watcher has hung up");
  }
  Advance();
}

void WatchReactor::OnCancel() {
  const std::lock_guard<std::mutex> lock(mutex_);
  next_.reset();
  end_ = absl::CancelledError("the watcher has hung up");
  Advance();
}

void WatchReactor::OnDone() {
  std::shared_ptr<WatchReactor> last;
  // The engine may hold this object for longer than the call lasts.
  std::unique_ptr<access::OpenCall> closed;
  const std::lock_guard<std::mutex> lock(mutex_);
  last.swap(self_);
  closed.swap(open_);
}

}  // namespace loupe::coordinator::rpc
