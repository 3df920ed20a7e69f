// Writing named arrays as torch.save writes a state_dict: the counterpart of torch_checkpoint.h. No class of ours is in
// the file, so torch.load reads it with weights_only=True.
//
//   a zip archive of stored (uncompressed) entries, as PyTorch 1.6 and later write it:
//     archive/data.pkl    a pickle of protocol 2: a dictionary of text to
//                         torch._utils._rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict()), a storage
//                         being the persistent id ('storage', torch.FloatStorage, '0', 'cpu', count)
//     archive/byteorder   "little"
//     archive/data/0 …    the arrays' bytes, each beginning at a multiple of 64
//     archive/version     "3\n"
//
// A TorchValue is written the same way, without archive/byteorder (little is what it is read as): the reader of
// AUTOMATIC1111's web UI refuses an archive with that entry.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/io/safetensors.h"

namespace loupe::worker::io {

// torch's class of storages of this type; empty where it has none.
std::string_view TorchStorageClass(ElementType type);

// The file's bytes; the same arrays give the same bytes. INVALID_ARGUMENT when it would be over the 4 GB and 65,535
// entries that a zip archive without extensions holds, or an array's type has no class of storages.
absl::StatusOr<std::string> SerialiseTorchArchive(const std::map<std::string, ArrayView>& arrays);

// Plain data with arrays in it.
struct TorchValue {
  struct Entry;
  struct Dictionary {
    std::vector<Entry> entries;
  };
  struct Tuple {
    std::vector<TorchValue> items;
  };
  using List = std::vector<TorchValue>;
  std::variant<std::monostate, bool, int64_t, double, std::string, ArrayView, List, Tuple, Dictionary> value;
};

struct TorchValue::Entry {
  TorchValue key;
  TorchValue value;
};

// As SerialiseTorchArchive, of any value; the views' bytes must live that long.
absl::StatusOr<std::string> SerialiseTorchValue(const TorchValue& value);
absl::Status WriteTorchValue(const std::string& path, const TorchValue& value);

// Serialises to `path`, whole or not at all (see WriteFileAtomically for the errors).
absl::Status WriteTorchArchive(const std::string& path, const std::map<std::string, ArrayView>& arrays);

}  // namespace loupe::worker::io
