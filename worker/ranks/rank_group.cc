#include "worker/ranks/rank_group.h"

#include <signal.h>
#include <torch/utils.h>

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#ifdef LOUPE_WITH_CUDA
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

#include "fmt/format.h"
#include "worker/ranks/rank_meeting.h"
#include "worker/ranks/silence.h"

namespace loupe::worker::ranks {
namespace {

c10::intrusive_ptr<c10d::Store> StoreOf(const RankGroup::Options& options) {
  return (options.meeting != nullptr ? options.meeting : MeetInFile(options.meeting_file))->store;
}

std::string ReadyKey(int rank) { return fmt::format("ready/{}", rank); }

// Gloo sets no limit to how long another machine may be silent. Later than the job step's own connections notice
// (step_channel.cc): they know which task has gone, and that the trial is not at fault.
constexpr int kSilentRankSeconds = 90;

void WaitFor(const c10::intrusive_ptr<c10d::Work>& work) { work->wait(); }

}  // namespace

void SayReady(const RankGroup::Options& options) {
  StoreOf(options)->set(ReadyKey(options.rank), std::vector<uint8_t>{1});
}

bool AllReady(const RankGroup::Options& options) {
  std::vector<std::string> keys;
  for (int rank = 1; rank < options.ranks; ++rank) keys.push_back(ReadyKey(rank));
  return StoreOf(options)->check(keys);
}

RankGroup::RankGroup(const Options& options) : options_(options) {
  // Gloo writes to a rank that has just gone without asking for an error instead of the signal.
  signal(SIGPIPE, SIG_IGN);
  const c10::intrusive_ptr<c10d::Store> store = StoreOf(options);
  store->setTimeout(options.patience);
  group_ = c10::make_intrusive<c10d::ProcessGroup>(store, options.rank, options.ranks);
  const auto gloo = c10d::ProcessGroupGloo::Options::create(options.patience);
  gloo->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(options.interface));
  group_->setBackend(torch::kCPU, c10d::ProcessGroup::GLOO,
                     c10::make_intrusive<c10d::ProcessGroupGloo>(store, options.rank, options.ranks, gloo));
  EndAllWhenSilent(options.interface, kSilentRankSeconds);
#ifdef LOUPE_WITH_CUDA
  if (options.device.is_cuda()) {
    const auto nccl = c10d::ProcessGroupNCCL::Options::create();
    nccl->timeout = options.patience;
    group_->setBackend(torch::kCUDA, c10d::ProcessGroup::NCCL,
                       c10::make_intrusive<c10d::ProcessGroupNCCL>(store, options.rank, options.ranks, nccl));
  }
#endif
}

RankGroup::~RankGroup() = default;

void RankGroup::SumOnCpu(torch::Tensor values) {
  std::vector<torch::Tensor> tensors{std::move(values)};
  WaitFor(group_->getBackend(torch::kCPU)->allreduce(tensors));
}

std::string RankGroup::FromLeader(std::string bytes) {
  const auto send = [&](torch::Tensor tensor) {
    std::vector<torch::Tensor> tensors{std::move(tensor)};
    WaitFor(group_->getBackend(torch::kCPU)->broadcast(tensors));
  };
  const torch::Tensor size = torch::tensor(static_cast<int64_t>(bytes.size()), torch::kInt64);
  send(size);
  bytes.resize(static_cast<size_t>(size.item<int64_t>()));
  if (!bytes.empty()) {
    send(torch::from_blob(bytes.data(), {static_cast<int64_t>(bytes.size())}, torch::kUInt8));
  }
  return bytes;
}

torch::Tensor RankGroup::GatherRows(const torch::Tensor& own, const std::vector<int64_t>& rows) {
  constexpr int kTag = 1;
  const auto backend = group_->getBackend(torch::kCPU);
  if (rank() != 0) {
    std::vector<torch::Tensor> tensors{own};
    if (own.size(0) > 0) WaitFor(backend->send(tensors, 0, kTag));
    return {};
  }
  std::vector<torch::Tensor> parts{own};
  for (int from = 1; from < ranks(); ++from) {
    std::vector<int64_t> shape = own.sizes().vec();
    shape[0] = rows[static_cast<size_t>(from)];
    if (shape[0] == 0) continue;
    std::vector<torch::Tensor> tensors{torch::empty(shape, own.options())};
    WaitFor(backend->recv(tensors, from, kTag));
    parts.push_back(tensors.front());
  }
  return torch::cat(parts);
}

torch::Tensor RankGroup::ScatterRows(const torch::Tensor& all, const std::vector<int64_t>& row_shape,
                                     const std::vector<int64_t>& rows) {
  constexpr int kTag = 2;
  const auto backend = group_->getBackend(torch::kCPU);
  if (rank() != 0) {
    std::vector<int64_t> shape = row_shape;
    shape.insert(shape.begin(), rows[static_cast<size_t>(rank())]);
    std::vector<torch::Tensor> tensors{torch::empty(shape, torch::kUInt8)};
    if (shape.front() > 0) WaitFor(backend->recv(tensors, 0, kTag));
    return tensors.front();
  }
  int64_t first = rows.front();
  for (int to = 1; to < ranks(); ++to) {
    const int64_t count = rows[static_cast<size_t>(to)];
    std::vector<torch::Tensor> tensors{all.narrow(0, first, count).contiguous()};
    if (count > 0) WaitFor(backend->send(tensors, to, kTag));
    first += count;
  }
  return all.narrow(0, 0, rows.front());
}

}  // namespace loupe::worker::ranks
