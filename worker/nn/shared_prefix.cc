#include "worker/nn/shared_prefix.h"

#include <algorithm>

namespace loupe::worker::nn {

torch::Tensor PassesWithTheSameRows::Get(const void* part, const Tensors& reads, const Compute& compute) {
  const auto known = [&](const torch::Tensor& x) { return !x.defined() || held_.contains(x.unsafeGetTensorImpl()); };
  if (!std::all_of(reads.begin(), reads.end(), known)) return compute(reads);
  if (const auto found = parts_.find(part); found != parts_.end()) {
    ++shared_;
    return found->second;
  }
  torch::Tensor made = compute(reads);
  if (made.requires_grad()) return made;
  Hold(made);
  parts_.emplace(part, made);
  return made;
}

void PassesWithTheSameRows::Hold(const torch::Tensor& x) {
  alive_.push_back(x);
  held_.insert(x.unsafeGetTensorImpl());
}

RowsThatRepeat::Blocks RowsThatRepeat::BlocksOf(size_t count, const std::function<bool(size_t, size_t)>& same) {
  Blocks blocks;
  for (size_t block = 0; block < count; ++block) {
    const auto before = std::find_if(blocks.calls.begin(), blocks.calls.end(), [&](const std::vector<int64_t>& call) {
      return same(static_cast<size_t>(call.front()), block);
    });
    const bool seen = before != blocks.calls.end();
    blocks.same_as.push_back(seen ? before->front() : static_cast<int64_t>(block));
    if (!seen) blocks.calls.push_back({static_cast<int64_t>(block)});
  }
  return blocks;
}

RowsThatRepeat::Blocks RowsThatRepeat::BlocksOf(const std::vector<Tensors>& inputs) {
  const auto equal = [](const torch::Tensor& x, const torch::Tensor& y) { return x.is_same(y) || torch::equal(x, y); };
  return BlocksOf(inputs.size(), [&](size_t a, size_t b) {
    return std::equal(inputs[a].begin(), inputs[a].end(), inputs[b].begin(), inputs[b].end(), equal);
  });
}

RowsThatRepeat::RowsThatRepeat(Blocks blocks) : blocks_(std::move(blocks)) {
  for (const int64_t block : blocks_.same_as) {
    for (size_t call = 0; call < blocks_.calls.size(); ++call) {
      const std::vector<int64_t>& computed = blocks_.calls[call];
      const auto found = std::find(computed.begin(), computed.end(), block);
      if (found != computed.end()) places_.push_back({call, found - computed.begin()});
    }
  }
  TORCH_CHECK(places_.size() == blocks_.same_as.size(), "every block's rows are computed in one call");
}

void RowsThatRepeat::Begin(const torch::Tensor& input) {
  const auto blocks = static_cast<int64_t>(places_.size());
  if (input.size(0) == 1 && blocks > 1) {
    Hold({.whole = input, .by_call = {input}, .one_for_all = true});
    return;
  }
  const int64_t rows = input.size(0) / blocks;
  Held held{.whole = input, .by_call = {}};
  for (const std::vector<int64_t>& call : blocks_.calls) {
    Tensors parts;
    parts.reserve(call.size());
    for (const int64_t block : call) parts.push_back(input.narrow(0, block * rows, rows));
    held.by_call.push_back(parts.size() == 1 ? parts.front() : torch::cat(parts));
  }
  Hold(std::move(held));
}

torch::Tensor RowsThatRepeat::Get(const void* /*part*/, const Tensors& reads, const Compute& compute) {
  std::vector<const Held*> known;
  bool one_for_all = true;
  for (const torch::Tensor& read : reads) {
    if (!read.defined()) {
      known.push_back(nullptr);
      continue;
    }
    const auto found = held_.find(read.unsafeGetTensorImpl());
    if (found == held_.end()) return compute(reads);
    known.push_back(&found->second);
    one_for_all &= found->second.one_for_all;
  }
  if (one_for_all) {
    torch::Tensor made = compute(reads);
    if (!made.requires_grad()) Hold({.whole = made, .by_call = {made}, .one_for_all = true});
    return made;
  }
  Held made;
  for (size_t call = 0; call < blocks_.calls.size(); ++call) {
    Tensors its;
    its.reserve(known.size());
    for (const Held* const read : known) {
      its.push_back(read == nullptr ? torch::Tensor() : read->by_call[read->one_for_all ? 0 : call]);
    }
    made.by_call.push_back(compute(its));
  }
  ++shared_;
  torch::Tensor whole = made.whole = Whole(made.by_call);
  if (!whole.requires_grad()) Hold(std::move(made));
  return whole;
}

torch::Tensor RowsThatRepeat::Whole(const Tensors& by_call) const {
  Tensors blocks;
  blocks.reserve(places_.size());
  for (const Place& place : places_) {
    const torch::Tensor& made = by_call[place.call];
    const int64_t rows = made.size(0) / static_cast<int64_t>(blocks_.calls[place.call].size());
    blocks.push_back(made.narrow(0, place.position * rows, rows));
  }
  return torch::cat(blocks);
}

void RowsThatRepeat::Hold(Held held) {
  const c10::TensorImpl* const name = held.whole.unsafeGetTensorImpl();
  held_.insert_or_assign(name, std::move(held));
}

}  // namespace loupe::worker::nn
