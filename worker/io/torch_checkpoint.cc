#include "worker/io/torch_checkpoint.h"

#include <zlib.h>

#include <algorithm>
#include <deque>
#include <limits>
#include <utility>
#include <vector>

#include "common/atomic_file.h"
#include "common/lfs_pointer.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/io/restricted_pickle.h"
#include "worker/io/torch_archive.h"

namespace loupe::worker::io {
namespace {

using ValueKind = PickleValue::Kind;

// Little-endian; the caller has checked the bounds.
uint64_t NumberAt(std::string_view bytes, size_t at, size_t count) {
  uint64_t number = 0;
  for (size_t i = count; i-- > 0;) number = number << 8 | static_cast<unsigned char>(bytes[at + i]);
  return number;
}

absl::Status CutOff() { return absl::InvalidArgumentError("the file is cut off"); }

// The content of a stored entry, from its record in the archive's directory.
absl::StatusOr<std::string_view> EntryContent(std::string_view bytes, size_t record) {
  constexpr size_t kLocalSize = 30;
  const uint64_t method = NumberAt(bytes, record + 10, 2), checksum = NumberAt(bytes, record + 16, 4);
  const uint64_t size = NumberAt(bytes, record + 24, 4), local = NumberAt(bytes, record + 42, 4);
  if (method != 0) return absl::InvalidArgumentError("a compressed archive; expected one that torch.save wrote");
  constexpr uint64_t kInExtraField = std::numeric_limits<uint32_t>::max();
  if (size == kInExtraField || local == kInExtraField) {
    return absl::InvalidArgumentError("an archive of more than 4 GB; expected .safetensors for weights of that size");
  }
  if (local > bytes.size() || bytes.size() - local < kLocalSize) return CutOff();
  const uint64_t begin = local + kLocalSize + NumberAt(bytes, local + 26, 2) + NumberAt(bytes, local + 28, 2);
  if (begin > bytes.size() || bytes.size() - begin < size) return CutOff();
  const std::string_view content = bytes.substr(begin, size);
  if (::crc32_z(0, reinterpret_cast<const Bytef*>(content.data()), content.size()) != checksum) {
    return absl::InvalidArgumentError("its checksum does not match: the file is damaged");
  }
  return content;
}

// The stored entries of a zip archive by name. APPNOTE.TXT sections 4.3.7, 4.3.12 and 4.3.16; PyTorch never compresses.
absl::StatusOr<std::map<std::string, std::string_view>> ReadStoredZip(std::string_view bytes) {
  constexpr size_t kEndSize = 22, kCentralSize = 46;
  const size_t end = bytes.rfind("PK\5\6");
  if (end == std::string_view::npos || bytes.size() - end < kEndSize) return CutOff();
  const uint64_t count = NumberAt(bytes, end + 10, 2);
  uint64_t at = NumberAt(bytes, end + 16, 4);
  std::map<std::string, std::string_view> entries;
  for (uint64_t i = 0; i < count; ++i) {
    if (at > bytes.size() || bytes.size() - at < kCentralSize) return CutOff();
    const uint64_t name_size = NumberAt(bytes, at + 28, 2), extra = NumberAt(bytes, at + 30, 2);
    const uint64_t comment = NumberAt(bytes, at + 32, 2);
    if (bytes.size() - at - kCentralSize < name_size + extra + comment) return CutOff();
    const std::string name(bytes.substr(at + kCentralSize, name_size));
    auto content = EntryContent(bytes, at);
    if (!content.ok()) return Annotate(content.status(), name);
    entries[name] = *content;
    at += kCentralSize + name_size + extra + comment;
  }
  return entries;
}

absl::StatusOr<ElementType> ElementTypeOfStorage(std::string_view global) {
  const std::string_view name = global.substr(global.find('\n') + 1);
  constexpr ElementType kRead[] = {ElementType::kF32, ElementType::kF64,  ElementType::kF16, ElementType::kBF16,
                                   ElementType::kI64, ElementType::kI32,  ElementType::kI16, ElementType::kI8,
                                   ElementType::kU8,  ElementType::kBool, ElementType::kC64};
  for (const ElementType type : kRead) {
    if (global.starts_with("torch\n") && name == TorchStorageClass(type)) return type;
  }
  return absl::InvalidArgumentError(fmt::format(
      "a tensor of {}, expected one of floats, integers or truth values (FloatStorage, …, BoolStorage)", name));
}

// A persistent id is ('storage', type, key, device, count, …).
bool IsStorageId(const PickleValue& storage) {
  return storage.items->size() >= 5 && (*storage.items)[1].kind == ValueKind::kGlobal &&
         (*storage.items)[2].kind == ValueKind::kText && (*storage.items)[4].kind == ValueKind::kInteger;
}

using Storages = std::map<std::string, std::string_view, std::less<>>;

// Whether the places of a tensor are those of a contiguous one in another order of its dimensions, so that no two share
// a number and none lies between them. What torch.save writes of a transposed weight is.
bool IsPermuted(const std::vector<int64_t>& shape, const std::vector<int64_t>& strides) {
  std::vector<std::pair<int64_t, int64_t>> dimensions;
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] != 1) dimensions.emplace_back(strides[i], shape[i]);
  }
  std::sort(dimensions.begin(), dimensions.end());
  int64_t expected = 1;
  for (const auto& [stride, size] : dimensions) {
    if (stride != expected) return false;
    expected *= size;
  }
  return true;
}

// The numbers of `from`, `width` bytes each, in the order of their indices, the last one running fastest.
std::string InOrder(std::string_view from, const std::vector<int64_t>& shape, const std::vector<int64_t>& strides,
                    size_t width) {
  std::string ordered;
  ordered.reserve(from.size());
  std::vector<int64_t> index(shape.size(), 0);
  int64_t place = 0;
  while (ordered.size() < from.size()) {
    ordered.append(from.substr(static_cast<size_t>(place) * width, width));
    for (size_t i = shape.size(); i-- > 0;) {
      place += strides[i];
      if (++index[i] < shape[i]) break;
      place -= strides[i] * shape[i];
      index[i] = 0;
    }
  }
  return ordered;
}

// Tensors that were brought into order. All of them together may take as much as the file: more is asked for only by
// one in which tensors share their numbers.
struct Reordered {
  std::deque<std::string> kept;
  size_t left = 0;
};

// `reordered`: where tensors go that are contiguous but for the order of their dimensions; null refuses them.
absl::StatusOr<ArrayView> ViewOf(const PickleValue& tensor, const Storages& storages, Reordered* reordered = nullptr) {
  const std::vector<PickleValue>& parts = *tensor.items;
  if (parts[1].kind != ValueKind::kInteger || parts[2].kind != ValueKind::kTuple ||
      parts[3].kind != ValueKind::kTuple || parts[2].items->size() != parts[3].items->size()) {
    return absl::InvalidArgumentError("a tensor that is not understood");
  }
  ArrayView view{};
  LOUPE_ASSIGN_OR_RETURN(view.type, ElementTypeOfStorage((*parts[0].items)[1].text));
  int64_t expected_stride = 1;
  bool contiguous = true;
  std::vector<int64_t> strides;
  for (size_t i = parts[2].items->size(); i-- > 0;) {
    const int64_t size = (*parts[2].items)[i].integer, stride = (*parts[3].items)[i].integer;
    if (size < 0 || size > (int64_t{1} << 31)) return absl::InvalidArgumentError("a tensor of an impossible shape");
    contiguous = contiguous && (size == 1 || stride == expected_stride);
    if (size > 0 && expected_stride > (int64_t{1} << 40) / size) {
      return absl::InvalidArgumentError("a tensor of an impossible shape");
    }
    expected_stride *= size;
    view.shape.insert(view.shape.begin(), size);
    strides.insert(strides.begin(), stride);
  }
  if (!contiguous && (reordered == nullptr || !IsPermuted(view.shape, strides))) {
    return absl::InvalidArgumentError("a tensor that is not contiguous");
  }
  const auto found = storages.find((*parts[0].items)[2].text);
  if (found == storages.end()) return absl::InvalidArgumentError("a tensor's storage is missing");
  const int64_t width = ElementBits(view.type) / 8, offset = parts[1].integer;
  const auto available = static_cast<int64_t>(found->second.size()) / width;
  if (offset < 0 || offset > available || expected_stride > available - offset) return CutOff();
  view.bytes = found->second.substr(static_cast<size_t>(offset * width), static_cast<size_t>(expected_stride * width));
  if (contiguous) return view;
  if (view.bytes.size() > reordered->left) {
    return absl::InvalidArgumentError("a tensor that is not contiguous, in a file of tensors that share their numbers");
  }
  reordered->left -= view.bytes.size();
  view.bytes = reordered->kept.emplace_back(InOrder(view.bytes, view.shape, strides, static_cast<size_t>(width)));
  return view;
}

// That `root` is a dictionary of names to tensors, each with a storage.
absl::Status CheckStateDictionary(const PickleValue& root) {
  if (root.kind != ValueKind::kDictionary)
    return absl::InvalidArgumentError("expected a dictionary of tensors (a state_dict)");
  for (size_t i = 0; i < root.items->size(); i += 2) {
    const PickleValue &key = (*root.items)[i], &value = (*root.items)[i + 1];
    if (key.kind != ValueKind::kText || value.kind != ValueKind::kTensor || !IsStorageId((*value.items)[0])) {
      return absl::InvalidArgumentError(fmt::format("entry '{}' is no tensor; expected a state_dict", key.text));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<ArrayView> ArrayOf(const PickleValue& value, const Storages& storages) {
  if (value.kind != ValueKind::kTensor || !IsStorageId((*value.items)[0])) {
    return absl::InvalidArgumentError("expected a tensor");
  }
  return ViewOf(value, storages);
}

absl::StatusOr<std::map<std::string, ArrayView>> ArraysOf(const PickleValue& root, const Storages& storages,
                                                          Reordered& reordered) {
  std::map<std::string, ArrayView> arrays;
  for (size_t i = 0; i < root.items->size(); i += 2) {
    const PickleValue &key = (*root.items)[i], &value = (*root.items)[i + 1];
    auto view = ViewOf(value, storages, &reordered);
    if (!view.ok()) return Annotate(view.status(), std::string(key.text));
    arrays[std::string(key.text)] = *std::move(view);
  }
  return arrays;
}

// The object and the bytes of its storages by their keys.
struct Unpacked {
  Pickle pickle;
  Storages storages;
};

absl::StatusOr<Unpacked> ReadArchive(std::string_view bytes) {
  LOUPE_ASSIGN_OR_RETURN(const auto entries, ReadStoredZip(bytes));
  std::string_view pickle;
  Unpacked unpacked;
  for (const auto& [name, content] : entries) {
    // "{archive}/data.pkl" and "{archive}/data/{key}"
    const size_t slash = name.find('/');
    if (slash == std::string::npos) continue;
    const std::string inner = name.substr(slash + 1);
    if (inner == "data.pkl") pickle = content;
    if (inner == "byteorder" && content != "little") return absl::InvalidArgumentError("a file of big-endian numbers");
    if (inner.starts_with("data/")) unpacked.storages[inner.substr(5)] = content;
  }
  if (pickle.empty())
    return absl::InvalidArgumentError("an archive without data.pkl; expected one that torch.save wrote");
  LOUPE_ASSIGN_OR_RETURN(unpacked.pickle, ReadPickle(pickle));
  return unpacked;
}

// {"protocol_version": 1001, "little_endian": True, "type_sizes": {…}}
absl::Status CheckSystem(const PickleValue& system) {
  if (system.kind == ValueKind::kDictionary) {
    for (size_t i = 0; i < system.items->size(); i += 2) {
      if ((*system.items)[i].text != "little_endian") continue;
      if ((*system.items)[i + 1].integer == 1) return absl::OkStatus();
      return absl::InvalidArgumentError("a file of big-endian numbers");
    }
  }
  return absl::InvalidArgumentError("it does not begin as torch.save's files do");
}

// Before PyTorch 1.6: magic number, version, system, the object, its storages' keys, then each storage as count and
// numbers.
absl::StatusOr<Unpacked> ReadSequence(std::string_view bytes) {
  for (int i = 0; i < 2; ++i) LOUPE_RETURN_IF_ERROR(ReadPickle(bytes).status());
  LOUPE_ASSIGN_OR_RETURN(const Pickle system, ReadPickle(bytes));
  LOUPE_RETURN_IF_ERROR(CheckSystem(system.root));
  Unpacked unpacked;
  LOUPE_ASSIGN_OR_RETURN(unpacked.pickle, ReadPickle(bytes));
  LOUPE_ASSIGN_OR_RETURN(const Pickle keys, ReadPickle(bytes));
  if (keys.root.kind != ValueKind::kList) return absl::InvalidArgumentError("expected the list of its storages");
  // Wherever in the object a tensor stands.
  std::map<std::string_view, int64_t> widths;
  for (const std::vector<PickleValue>& values : unpacked.pickle.containers) {
    for (const PickleValue& value : values) {
      if (value.kind != ValueKind::kStorage || !IsStorageId(value)) continue;
      LOUPE_ASSIGN_OR_RETURN(const ElementType type, ElementTypeOfStorage((*value.items)[1].text));
      widths[(*value.items)[2].text] = ElementBits(type) / 8;
    }
  }
  for (const PickleValue& key : *keys.root.items) {
    if (bytes.size() < 8) return CutOff();
    const uint64_t count = NumberAt(bytes, 0, 8);
    const auto width = widths.find(key.text);
    if (width == widths.end()) return absl::InvalidArgumentError("a storage that no tensor uses");
    bytes.remove_prefix(8);
    if (count > bytes.size() / static_cast<uint64_t>(width->second)) return CutOff();
    const size_t size = count * static_cast<uint64_t>(width->second);
    unpacked.storages[std::string(key.text)] = bytes.substr(0, size);
    bytes.remove_prefix(size);
  }
  return unpacked;
}

}  // namespace

struct TorchObject::Content {
  std::string path;
  std::string bytes;
  // These point into the bytes.
  Pickle pickle;
  std::map<std::string, std::string_view, std::less<>> storages;
};

absl::StatusOr<TorchObject> TorchObject::Open(const std::string& path) {
  auto content = std::make_shared<Content>();
  content->path = path;
  LOUPE_ASSIGN_OR_RETURN(content->bytes, ReadFile(path));
  const std::string_view all = content->bytes;
  LOUPE_RETURN_IF_ERROR(CheckIsNoLfsPointer(path, all));
  auto unpacked = all.starts_with("PK\3\4") ? ReadArchive(all) : ReadSequence(all);
  if (!unpacked.ok()) return Annotate(unpacked.status(), path + ": not weights that torch.save wrote");
  content->pickle = std::move(unpacked->pickle);
  content->storages = std::move(unpacked->storages);
  TorchObject object;
  object.content_ = std::move(content);
  return object;
}

const std::string& TorchObject::path() const { return content_->path; }
const PickleValue& TorchObject::root() const { return content_->pickle.root; }

const PickleValue* TorchObject::Find(const PickleValue& dictionary, std::string_view key) {
  if (dictionary.kind != ValueKind::kDictionary) return nullptr;
  const PickleValue* found = nullptr;
  for (size_t i = 0; i < dictionary.items->size(); i += 2) {
    const PickleValue& name = (*dictionary.items)[i];
    // The last one counts, as in Python.
    if (name.kind == ValueKind::kText && name.text == key) found = &(*dictionary.items)[i + 1];
  }
  return found;
}

absl::StatusOr<ArrayView> TorchObject::Array(const PickleValue& value) const {
  auto view = ArrayOf(value, content_->storages);
  return view.ok() ? view : Annotate(view.status(), content_->path);
}

absl::StatusOr<TorchCheckpoint> TorchCheckpoint::Open(const std::string& path) {
  TorchCheckpoint checkpoint;
  checkpoint.path_ = path;
  LOUPE_ASSIGN_OR_RETURN(checkpoint.object_, TorchObject::Open(path));
  // What training programs wrote has other things beside the weights.
  const PickleValue* const inner = TorchObject::Find(checkpoint.object_.root(), "state_dict");
  const PickleValue& root = inner != nullptr ? *inner : checkpoint.object_.root();
  const absl::Status known = CheckStateDictionary(root);
  if (!known.ok()) return Annotate(known, path + ": not weights that torch.save wrote");
  const auto reordered = std::make_shared<Reordered>();
  reordered->left = checkpoint.object_.content_->bytes.size();
  auto arrays = ArraysOf(root, checkpoint.object_.content_->storages, *reordered);
  if (!arrays.ok()) return Annotate(arrays.status(), path + ": not weights that torch.save wrote");
  checkpoint.arrays_ = *std::move(arrays);
  checkpoint.reordered_ = reordered;
  return checkpoint;
}

}  // namespace loupe::worker::io
