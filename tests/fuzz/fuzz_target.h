// What every fuzz target provides: libFuzzer's interface. fuzz_main.cc drives them with a fixed number of inputs from a
// fixed seed, so that they run in every test run; libFuzzer itself (tests/fuzz/run) for as long as one likes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace loupe::fuzz {

// Valid and nearly valid inputs to start from.
std::vector<std::string> Seeds();

// Pieces that mutations insert: keywords of the format.
std::vector<std::string> Dictionary();

// How many inputs the ordinary test run tries (LOUPE_FUZZ_RUNS overrides it).
int DefaultRuns();

// Ends the process with a message unless `holds`: how a target states what must be true of every input.
inline void Require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

}  // namespace loupe::fuzz

extern "C" {
// Must not crash, hang or leak, whatever the bytes are. Returns 0.
int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
// Changes `data` in place (its new size is returned, at most `max_size`): a target that knows its format has one.
size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned int seed) __attribute__((weak));
}
