// Where methods meet the network: a place in a block or a layer that parts of one or several methods take, each for its
// own run of a pack's slots.
#pragma once

#include <torch/types.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

namespace loupe::worker::nn {

// Slots first … first + count − 1 of a pack of `total`.
struct SlotRange {
  int64_t first = 0;
  int64_t count = 1;
  int64_t total = 1;

  bool all() const { return count == total; }
  int64_t end() const { return first + count; }
  bool operator==(const SlotRange&) const = default;
  // Their rows of x, [total·B, …], trial-major.
  torch::Tensor Rows(const torch::Tensor& x) const {
    if (all()) return x;
    TORCH_CHECK(x.size(0) % total == 0, "a pack of ", total, " trials cannot share ", x.size(0), " rows");
    const int64_t batch = x.size(0) / total;
    return x.narrow(0, first * batch, count * batch);
  }
};

// Empty means the plain network. Attach and detach only between forwards; forwards may come from several threads.
template <typename Part>
class PackSlot {
 public:
  struct Entry {
    SlotRange range;
    std::shared_ptr<Part> part;
  };

  bool empty() const { return entries_.empty(); }
  // By first slot; their ranges do not overlap and are of one pack.
  const std::vector<Entry>& entries() const { return entries_; }

  // False, and nothing is changed, when a slot of the range is taken, or by a pack of another size.
  [[nodiscard]] bool Attach(const SlotRange& range, std::shared_ptr<Part> part) {
    const auto after = std::find_if(entries_.begin(), entries_.end(),
                                    [&](const Entry& entry) { return entry.range.end() > range.first; });
    const bool free = after == entries_.end() || after->range.first >= range.end();
    if (!free || (!entries_.empty() && entries_.front().range.total != range.total)) return false;
    entries_.insert(after, {range, std::move(part)});
    return true;
  }
  void Detach(const Part* part) {
    std::erase_if(entries_, [&](const Entry& entry) { return entry.part.get() == part; });
  }

 private:
  std::vector<Entry> entries_;
};

}  // namespace loupe::worker::nn
