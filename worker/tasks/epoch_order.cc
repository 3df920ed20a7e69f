#include "worker/tasks/epoch_order.h"

#include <algorithm>

#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::worker::tasks {

std::string OriginOf(const void* data, const std::vector<int64_t>& items, const std::vector<torch::Tensor>& flags) {
  std::string origin = fmt::format("{}:{};", data, fmt::join(items, ","));
  for (const torch::Tensor& flag : flags) {
    const bool* const first = flag.const_data_ptr<bool>();
    for (int64_t i = 0; i < flag.numel(); ++i) origin += first[i] ? '1' : '0';
    origin += ';';
  }
  return origin;
}

std::vector<int64_t> EpochOrder::Next(int64_t count) {
  std::vector<int64_t> indices;
  while (static_cast<int64_t>(indices.size()) < count) {
    if (rest_.empty()) {
      const torch::Tensor pass = stream_.Permutation(size_);
      const int64_t* first = pass.const_data_ptr<int64_t>();
      rest_.assign(std::make_reverse_iterator(first + size_), std::make_reverse_iterator(first));
    }
    indices.push_back(rest_.back());
    rest_.pop_back();
  }
  return indices;
}

EpochOrder::State EpochOrder::Save() const {
  const std::vector<int64_t> next_first(rest_.rbegin(), rest_.rend());
  return {stream_.State(), torch::tensor(next_first, torch::kInt64)};
}

void EpochOrder::Restore(const State& state) {
  stream_.SetState(state.generator);
  const torch::Tensor rest = state.rest.contiguous();
  const int64_t* first = rest.const_data_ptr<int64_t>();
  rest_.assign(std::make_reverse_iterator(first + rest.numel()), std::make_reverse_iterator(first));
}

}  // namespace loupe::worker::tasks
