// Reading a .pt or .pth file (torch.save's) without running anything: its pickle may only build dictionaries, lists,
// numbers, texts and tensors, and whatever else it names is refused.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/io/restricted_pickle.h"
#include "worker/io/safetensors.h"

namespace loupe::worker::io {

// Whatever plain data torch.save wrote: dictionaries in dictionaries, with tensors in them. Immutable and thread-safe;
// copies share the data.
class TorchObject {
 public:
  // Files and errors as TorchCheckpoint::Open, but for what the content is.
  static absl::StatusOr<TorchObject> Open(const std::string& path);

  const std::string& path() const;
  const PickleValue& root() const;
  // The value under a key of a dictionary; nullptr where it has none (or is none).
  static const PickleValue* Find(const PickleValue& dictionary, std::string_view key);
  // INVALID_ARGUMENT when `value` is no tensor, not contiguous, or its bytes are missing. The view lives as long as the
  // object and its copies.
  absl::StatusOr<ArrayView> Array(const PickleValue& value) const;

 private:
  friend class TorchCheckpoint;
  struct Content;
  std::shared_ptr<const Content> content_;
};

// Immutable and thread-safe.
class TorchCheckpoint {
 public:
  // A dictionary of names to tensors (a state_dict, or a .ckpt that has one under that name) that are contiguous or, as
  // a transposed weight is, would be in another order of their dimensions; in the zip archive of PyTorch 1.6 and later
  // or the older form of pickles one after another. NOT_FOUND / PERMISSION_DENIED if it cannot be read;
  // INVALID_ARGUMENT, with the path and what is wrong, if it is cut off, does not fit its checksums (the older form has
  // none), is compressed, is no such dictionary, or its pickle names anything but torch's own tensor rebuilding and
  // OrderedDict.
  static absl::StatusOr<TorchCheckpoint> Open(const std::string& path);

  const std::string& path() const { return path_; }
  // The views live as long as the checkpoint (and its copies).
  const std::map<std::string, ArrayView>& arrays() const { return arrays_; }

 private:
  TorchCheckpoint() = default;

  std::string path_;
  TorchObject object_;
  std::shared_ptr<const void> reordered_;
  std::map<std::string, ArrayView> arrays_;
};

}  // namespace loupe::worker::io
