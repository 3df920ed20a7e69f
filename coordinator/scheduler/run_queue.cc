#include "coordinator/scheduler/run_queue.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace loupe::coordinator::scheduler {
namespace {

// SplitMix64 (Steele, Lea, Flood 2014): small, and the same on every machine and standard library.
uint64_t NextRandom(uint64_t& state) {
  uint64_t z = (state += 0x9e3779b97f4a7c15ULL);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

// Fisher–Yates. The remainder's bias is below 2^-40 for the at most 10^6 cells of a sweep.
std::vector<int32_t> ShuffledCells(int64_t cells, uint64_t seed) {
  std::vector<int32_t> order(static_cast<size_t>(cells));
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[NextRandom(seed) % i]);
  return order;
}

}  // namespace

RunQueue::RunQueue(int64_t cells, int32_t replicates, uint64_t seed)
    : cells_(cells), replicates_(replicates), seed_(seed), fresh_(static_cast<size_t>(cells * replicates), false) {}

void RunQueue::AddFresh(int64_t index) {
  fresh_[static_cast<size_t>(index)] = true;
  ++fresh_count_;
}

void RunQueue::AddAgain(int64_t index) { again_.insert(index); }

void RunQueue::Remove(int64_t index) {
  if (fresh_[static_cast<size_t>(index)]) {
    fresh_[static_cast<size_t>(index)] = false;
    --fresh_count_;
  }
  again_.erase(index);
}

void RunQueue::Clear() {
  fresh_.assign(fresh_.size(), false);
  fresh_count_ = 0;
  again_.clear();
}

int64_t RunQueue::AtPosition(int64_t position) {
  const int64_t replicate = position / cells_;
  if (replicate != ordered_replicate_) {
    uint64_t state = seed_;
    const uint64_t replicate_seed = NextRandom(state) ^ static_cast<uint64_t>(replicate);
    cell_order_ = ShuffledCells(cells_, replicate_seed);
    ordered_replicate_ = replicate;
  }
  return replicate * cells_ + cell_order_[static_cast<size_t>(position % cells_)];
}

std::optional<int64_t> RunQueue::NextFresh() {
  if (fresh_count_ == 0) return std::nullopt;
  // Each position is passed once: constant time per trial, over the sweep.
  while (!fresh_[static_cast<size_t>(AtPosition(cursor_))]) ++cursor_;
  return AtPosition(cursor_);
}

RunQueue::Place RunQueue::NextPlace() {
  const std::optional<int64_t> fresh = NextFresh();
  if (again_.empty()) return {*fresh / cells_, true, cursor_};
  const Place again{*again_.begin() / cells_, false, *again_.begin()};
  return fresh ? std::min(again, Place{*fresh / cells_, true, cursor_}) : again;
}

std::optional<int64_t> RunQueue::Peek() {
  const std::optional<int64_t> next_fresh = NextFresh();
  const bool again = !again_.empty() && (!next_fresh || *again_.begin() / cells_ <= *next_fresh / cells_);
  return again ? *again_.begin() : next_fresh;
}

std::optional<int64_t> RunQueue::Pop() {
  const std::optional<int64_t> next = Peek();
  if (next) Remove(*next);
  return next;
}

}  // namespace loupe::coordinator::scheduler
