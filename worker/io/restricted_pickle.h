// A reader of Python pickles that builds plain data only: the part of torch_checkpoint.h that knows the opcodes.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace loupe::worker::io {

// What a pickle can hold here. Plain views: texts point into the pickle's bytes, containers into the Pickle.
struct PickleValue {
  enum class Kind { kNone, kInteger, kReal, kText, kTuple, kList, kDictionary, kGlobal, kStorage, kTensor };
  Kind kind = Kind::kNone;
  int64_t integer = 0;  // also booleans
  double real = 0;
  std::string_view text;                      // kText; kGlobal: module and name with a line break between
  std::vector<PickleValue>* items = nullptr;  // kTuple, kList; kDictionary: key, value, key, value, …; kStorage: the
                                              // persistent id; kTensor: storage, offset, shape (tuple), strides (tuple)
};

// A value with all its containers. However they refer to each other, they are freed one after another, so that no
// nesting in a hostile file can exhaust the stack.
struct Pickle {
  PickleValue root;
  std::deque<std::vector<PickleValue>> containers;
  std::deque<std::string> names;  // of globals that do not lie in one piece in the bytes
};

// The value of the pickle at the front of `bytes`, which is moved past it; the result must not outlive the bytes.
// INVALID_ARGUMENT says where it ends or is malformed, and which callable or opcode it was refused for; also when it
// takes more than four million steps (a thirtieth of a tensor each), so that a small file cannot ask for much memory.
absl::StatusOr<Pickle> ReadPickle(std::string_view& bytes);

}  // namespace loupe::worker::io
