#include "worker/ranks/reducer.h"

#include <algorithm>
#include <string>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/comm.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>

namespace loupe::worker::ranks {
namespace {

using Group = c10::intrusive_ptr<c10d::ProcessGroup>;
using Buckets = std::vector<std::vector<size_t>>;
using Names = std::unordered_map<size_t, std::string>;

// Losses are sums over rows, so that gradients are added up; c10d's own hooks divide by the number of ranks.
class SumHook : public c10d::CppCommHookInterface<Group> {
 public:
  using CppCommHookInterface::CppCommHookInterface;
  c10::intrusive_ptr<c10::ivalue::Future> runHook(c10d::GradBucket& bucket) override {
    std::vector<torch::Tensor> buffers{bucket.getBufferRef()};
    return state_->allreduce(buffers)->getFuture();
  }
};

// A template, so that the forms which this LibTorch does not have are not looked at.
template <typename Reducer>
std::unique_ptr<Reducer> Make(std::vector<torch::Tensor> parameters, Buckets buckets, const Group& group,
                              int64_t bucket_bytes) {
  const std::vector<bool> sparse(parameters.size(), false);
  // A method may leave parameters without a gradient (a layer that this task does not reach).
  constexpr bool kFindUnused = true, kGradientAsView = false, kSkipUnused = false, kPython = false;
  const int64_t first_bytes = bucket_bytes;
  if constexpr (std::is_constructible_v<Reducer, std::vector<torch::Tensor>, Buckets, Group, std::vector<bool>, int64_t,
                                        bool, bool, Names, int64_t, bool, bool, std::vector<int64_t>, bool>) {
    // 2.13
    return std::make_unique<Reducer>(std::move(parameters), std::move(buckets), group, sparse, bucket_bytes,
                                     kFindUnused, kGradientAsView, Names(), first_bytes, kSkipUnused, kPython,
                                     std::vector<int64_t>(), false);
  } else if constexpr (std::is_constructible_v<Reducer, std::vector<torch::Tensor>, Buckets, Group, std::vector<bool>,
                                               int64_t, bool, bool, Names, int64_t, bool, bool>) {
    // 2.9 to 2.12
    return std::make_unique<Reducer>(std::move(parameters), std::move(buckets), group, sparse, bucket_bytes,
                                     kFindUnused, kGradientAsView, Names(), first_bytes, kSkipUnused, kPython);
  } else {
    // Before.
    return std::make_unique<Reducer>(std::move(parameters), std::move(buckets), group, sparse, bucket_bytes,
                                     kFindUnused, kGradientAsView, Names(), first_bytes);
  }
}

}  // namespace

struct OverlappedReducer::State {
  std::unique_ptr<c10d::Reducer> reducer;
};

OverlappedReducer::OverlappedReducer(RankGroup& group, std::vector<torch::Tensor> parameters, int64_t bucket_bytes)
    : state_(std::make_unique<State>()) {
  Buckets buckets = std::get<0>(
      c10d::compute_bucket_assignment_by_size(parameters, std::vector<size_t>{static_cast<size_t>(bucket_bytes)}));
  std::reverse(buckets.begin(), buckets.end());
  state_->reducer = Make<c10d::Reducer>(std::move(parameters), std::move(buckets), group.group(), bucket_bytes);
  state_->reducer->register_comm_hook(std::make_unique<SumHook>(group.group()));
}

OverlappedReducer::~OverlappedReducer() = default;

void OverlappedReducer::PrepareForBackward(const torch::Tensor& loss) { state_->reducer->prepare_for_backward({loss}); }

}  // namespace loupe::worker::ranks
