// Memory that runs out when a test wants it: a test program that links this has an operator new of its own.
#pragma once

#include <cstdint>

namespace loupe::testing {

// The calling thread's `n`-th allocation from now on (1: the next) throws std::bad_alloc, once. 0: none does.
void FailAllocation(int64_t n);
// Whether that has happened since the last FailAllocation of this thread.
bool HasFailedAllocation();

}  // namespace loupe::testing
