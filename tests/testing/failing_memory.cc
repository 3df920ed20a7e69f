#include "tests/testing/failing_memory.h"

#include <cstdlib>
#include <new>

namespace loupe::testing {
namespace {

thread_local int64_t allocations_left = 0;
thread_local bool has_failed = false;

void* Allocate(std::size_t size) {
  if (allocations_left > 0 && --allocations_left == 0) {
    has_failed = true;
    throw std::bad_alloc();
  }
  if (void* memory = std::malloc(size == 0 ? 1 : size); memory != nullptr) return memory;
  throw std::bad_alloc();
}

}  // namespace

void FailAllocation(int64_t n) {
  allocations_left = n;
  has_failed = false;
}

bool HasFailedAllocation() { return has_failed; }

}  // namespace loupe::testing

void* operator new(std::size_t size) { return loupe::testing::Allocate(size); }
void* operator new[](std::size_t size) { return loupe::testing::Allocate(size); }
// These too: a sanitizer has its own, whose memory our operator delete must not free.
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return std::malloc(size == 0 ? 1 : size); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return std::malloc(size == 0 ? 1 : size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
