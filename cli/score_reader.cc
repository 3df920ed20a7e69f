#include "cli/score_reader.h"

#include <algorithm>
#include <utility>

#include "common/clock.h"
#include "common/status_macros.h"
#include "loupe/v1/view.grpc.pb.h"

namespace loupe::cli {
namespace {

constexpr absl::Duration kLeastWait = absl::Seconds(2);
constexpr int kShareOfTime = 20;

}  // namespace

absl::StatusOr<SweepScores> ReadSweepScores(const clients::rpc::Connection& connection, const std::string& sweep_name,
                                            CancelableContext& call) {
  const auto stub = v1::ViewService::NewStub(connection.channel());
  v1::GetTrialTableRequest request;
  request.set_parent(sweep_name);
  SweepScores scores;
  do {
    grpc::ClientContext& context = call.Renew();
    connection.Prepare(context);
    v1::GetTrialTableResponse page;
    LOUPE_RETURN_IF_ERROR(connection.Check(stub->GetTrialTable(&context, request, &page)));
    LOUPE_RETURN_IF_ERROR(scores.Add(page));
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  return scores;
}

ScoreReader::ScoreReader(const clients::rpc::Connection& connection, std::string sweep_name)
    : connection_(connection), sweep_name_(std::move(sweep_name)), thread_([this] { Loop(); }) {}

ScoreReader::~ScoreReader() { Stop(); }

void ScoreReader::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  call_.Cancel();
  if (thread_.joinable()) thread_.join();
}

void ScoreReader::Want(int64_t succeeded) {
  const std::lock_guard lock(mutex_);
  wanted_ = succeeded;
  changed_.notify_all();
}

std::shared_ptr<const SweepScores> ScoreReader::scores() const {
  const std::lock_guard lock(mutex_);
  return scores_;
}

std::shared_ptr<const SweepScores> ScoreReader::ReadLast() {
  Stop();
  CancelableContext call;
  absl::StatusOr<SweepScores> read = ReadSweepScores(connection_, sweep_name_, call);
  const std::lock_guard lock(mutex_);
  if (read.ok()) scores_ = std::make_shared<const SweepScores>(*std::move(read));
  return scores_;
}

void ScoreReader::Loop() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || wanted_ != read_; });
    if (stopping_) return;
    const int64_t wanted = wanted_;
    lock.unlock();
    const absl::Duration began = SystemClock().MonotonicNow();
    absl::StatusOr<SweepScores> read = ReadSweepScores(connection_, sweep_name_, call_);
    const absl::Duration took = SystemClock().MonotonicNow() - began;
    lock.lock();
    if (read.ok()) {
      scores_ = std::make_shared<const SweepScores>(*std::move(read));
      read_ = wanted;
    } else if (absl::IsUnimplemented(read.status())) {
      return;
    }
    // An error (a restart, …) is tried again after the same wait.
    changed_.wait_for(lock, absl::ToChronoNanoseconds(std::max(kLeastWait, kShareOfTime * took)),
                      [this] { return stopping_; });
  }
}

}  // namespace loupe::cli
