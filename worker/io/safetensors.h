// The safetensors file format: named arrays after a JSON header, read through a memory map and written atomically.
//
//   8 bytes   little-endian length L of the header
//   L bytes   JSON: {"name": {"dtype": "F16", "shape": [2, 3], "data_offsets": [begin, end]}, …,
//                    "__metadata__": {"key": "value", …}}; may be padded with spaces
//   the rest  the arrays, little-endian, row-major; offsets count from the first byte after the header
//
// The reader trusts nothing: see Open. It takes what the safetensors library (0.8) takes, but for a name that stands
// twice, which the format forbids and that library overlooks. The format is docs/formats.md's for adapter files.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace loupe::worker::io {

// All that the format has; nothing outside the process sees the numbers. The F8, F6 and F4 types are named by the bits
// of exponent and mantissa (Open Compute Project, Microscaling Formats 1.0; arXiv 2209.05433).
enum class ElementType {
  kF16,
  kBF16,
  kF32,
  kF64,
  kI64,
  kI32,
  kU8,
  kBool,
  kI8,
  kI16,
  kU16,
  kU32,
  kU64,
  kC64,
  kF8E4M3,
  kF8E5M2,
  kF8E4M3Fnuz,
  kF8E5M2Fnuz,
  kF8E8M0,
  kF6E2M3,
  kF6E3M2,
  kF4,
};

// "F16", … as in the header; and the bits of one element, which for F6 and F4 are no whole bytes.
std::string_view ElementTypeName(ElementType type);
int64_t ElementBits(ElementType type);

// An array whose bytes belong to someone else: for a SafetensorsFile, to the file (for as long as it lives).
struct ArrayView {
  ElementType type;
  std::vector<int64_t> shape;  // empty: one number
  std::string_view bytes;      // may be unaligned
};

using Metadata = std::map<std::string, std::string>;

// An open, checked file. Immutable and thread-safe; the map is released with the last copy.
class SafetensorsFile {
 public:
  // NOT_FOUND / PERMISSION_DENIED if it cannot be read; INVALID_ARGUMENT, with the path and what is wrong, if it is not
  // well formed: a Git LFS pointer, shorter than its header, a header over 100 MB or not JSON, a repeated name, a type
  // that the format does not have, a negative or overflowing shape, offsets that leave the file, overlap, leave a gap
  // or do not fit the shape. Fields of an array that are not known are passed over.
  static absl::StatusOr<SafetensorsFile> Open(const std::string& path);

  const std::string& path() const { return path_; }
  const std::map<std::string, ArrayView>& arrays() const { return arrays_; }
  const Metadata& metadata() const { return metadata_; }

 private:
  SafetensorsFile() = default;

  std::string path_;
  std::shared_ptr<const std::string_view> map_;  // unmaps in its deleter
  std::map<std::string, ArrayView> arrays_;
  Metadata metadata_;
};

// The file's bytes. The same arrays and metadata give the same bytes: names are sorted in the header, and the arrays
// lie by falling element size, then by name, so that all are aligned. INVALID_ARGUMENT if an array's bytes do not fit
// its shape or its name is empty or "__metadata__".
absl::StatusOr<std::string> SerialiseSafetensors(const std::map<std::string, ArrayView>& arrays,
                                                 const Metadata& metadata);

// Serialises to `path`, whole or not at all (see WriteFileAtomically for the errors).
absl::Status WriteSafetensors(const std::string& path, const std::map<std::string, ArrayView>& arrays,
                              const Metadata& metadata);

}  // namespace loupe::worker::io
