// Memory that runs out once, when a test says so.
#pragma once

#include <c10/core/CPUAllocator.h>

#include <atomic>
#include <new>

namespace loupe::testing {

// LibTorch's allocator of the CPU while it lives. Armed, it refuses the next tensor of `least` bytes or more, and no
// other.
class OnceFailingAllocator : public c10::Allocator {
 public:
  OnceFailingAllocator() : before_(c10::GetCPUAllocator()) { c10::SetCPUAllocator(this, kPriority); }
  ~OnceFailingAllocator() override { c10::SetCPUAllocator(before_, kPriority); }

  void Arm(size_t least = size_t{64} << 10) { least_ = least; }
  bool failed() const { return failed_; }

  c10::DataPtr allocate(size_t bytes) override {
    if (size_t least = least_; least > 0 && bytes >= least && least_.compare_exchange_strong(least, 0)) {
      failed_ = true;
      throw std::bad_alloc();
    }
    return before_->allocate(bytes);
  }
  c10::DeleterFnPtr raw_deleter() const override { return before_->raw_deleter(); }
  void copy_data(void* to, const void* from, size_t count) const override { before_->copy_data(to, from, count); }

 private:
  static constexpr uint8_t kPriority = 1;

  c10::Allocator* const before_;
  std::atomic<size_t> least_ = 0;
  std::atomic<bool> failed_ = false;
};

}  // namespace loupe::testing
