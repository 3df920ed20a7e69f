// A reader of Python pickles that builds plain data only: the part of torch_checkpoint.h that knows the opcodes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace loupe::worker {

// What a pickle can hold here. Containers are shared, as in Python.
struct PickleValue {
  enum class Kind { kNone, kInteger, kReal, kText, kTuple, kList, kDictionary, kGlobal, kStorage, kTensor };
  Kind kind = Kind::kNone;
  int64_t integer = 0;  // also booleans
  double real = 0;
  std::string text;                                            // kText; kGlobal: "torch FloatStorage"
  std::shared_ptr<std::vector<PickleValue>> items;             // kTuple, kList; kStorage: the persistent id; kTensor: see below
  std::shared_ptr<std::vector<std::pair<PickleValue, PickleValue>>> entries;  // kDictionary
};
// A kTensor's items: storage, offset, shape (tuple), strides (tuple).

// The value of the pickle at the front of `bytes`, which is moved past it. INVALID_ARGUMENT says where it ends or is malformed,
// and which callable or opcode it was refused for.
absl::StatusOr<PickleValue> ReadPickle(std::string_view& bytes);

}  // namespace loupe::worker
