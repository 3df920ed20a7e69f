#include "worker/io/torch_checkpoint.h"

#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "common/atomic_file.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/io/restricted_pickle.h"

namespace loupe::worker {
namespace {

using ValueKind = PickleValue::Kind;

// Little-endian; the caller has checked the bounds.
uint64_t NumberAt(std::string_view bytes, size_t at, size_t count) {
  uint64_t number = 0;
  for (size_t i = count; i-- > 0;) number = number << 8 | static_cast<unsigned char>(bytes[at + i]);
  return number;
}

absl::Status CutOff() { return absl::InvalidArgumentError("the file is cut off"); }

// The stored entries of a zip archive by name. APPNOTE.TXT sections 4.3.7, 4.3.12 and 4.3.16; PyTorch never compresses.
absl::StatusOr<std::map<std::string, std::string_view>> ReadStoredZip(std::string_view bytes) {
  constexpr size_t kEndSize = 22, kCentralSize = 46, kLocalSize = 30;
  const size_t end = bytes.rfind("PK\5\6");
  if (end == std::string_view::npos || bytes.size() - end < kEndSize) return CutOff();
  const uint64_t count = NumberAt(bytes, end + 10, 2);
  uint64_t at = NumberAt(bytes, end + 16, 4);
  std::map<std::string, std::string_view> entries;
  for (uint64_t i = 0; i < count; ++i) {
    if (at > bytes.size() || bytes.size() - at < kCentralSize) return CutOff();
    const uint64_t method = NumberAt(bytes, at + 10, 2), size = NumberAt(bytes, at + 24, 4);
    const uint64_t name_size = NumberAt(bytes, at + 28, 2), extra = NumberAt(bytes, at + 30, 2);
    const uint64_t comment = NumberAt(bytes, at + 32, 2), local = NumberAt(bytes, at + 42, 4);
    if (method != 0) return absl::InvalidArgumentError("a compressed archive; expected one that torch.save wrote");
    if (bytes.size() - at - kCentralSize < name_size + extra + comment) return CutOff();
    if (local > bytes.size() || bytes.size() - local < kLocalSize) return CutOff();
    const uint64_t data =
        local + kLocalSize + NumberAt(bytes, local + 26, 2) + NumberAt(bytes, local + 28, 2);
    if (data > bytes.size() || bytes.size() - data < size) return CutOff();
    entries[std::string(bytes.substr(at + kCentralSize, name_size))] = bytes.substr(data, size);
    at += kCentralSize + name_size + extra + comment;
  }
  return entries;
}

absl::StatusOr<ElementType> ElementTypeOfStorage(const std::string& global) {
  static const std::map<std::string, ElementType> types = {
      {"torch FloatStorage", ElementType::kF32}, {"torch DoubleStorage", ElementType::kF64},
      {"torch HalfStorage", ElementType::kF16},  {"torch BFloat16Storage", ElementType::kBF16},
      {"torch LongStorage", ElementType::kI64},  {"torch IntStorage", ElementType::kI32},
      {"torch ByteStorage", ElementType::kU8}};
  const auto found = types.find(global);
  if (found != types.end()) return found->second;
  return absl::InvalidArgumentError(fmt::format("a tensor of '{}', which is not supported", global));
}

// A persistent id is ('storage', type, key, device, count, …).
bool IsStorageId(const PickleValue& storage) {
  return storage.items->size() >= 5 && (*storage.items)[1].kind == ValueKind::kGlobal &&
         (*storage.items)[2].kind == ValueKind::kText && (*storage.items)[4].kind == ValueKind::kInteger;
}

using Storages = std::map<std::string, std::string_view>;

absl::StatusOr<ArrayView> ViewOf(const PickleValue& tensor, const Storages& storages) {
  const std::vector<PickleValue>& parts = *tensor.items;
  if (!IsStorageId(parts[0]) || parts[1].kind != ValueKind::kInteger || parts[2].kind != ValueKind::kTuple ||
      parts[3].kind != ValueKind::kTuple || parts[2].items->size() != parts[3].items->size()) {
    return absl::InvalidArgumentError("a tensor that is not understood");
  }
  ArrayView view{};
  LOUPE_ASSIGN_OR_RETURN(view.type, ElementTypeOfStorage((*parts[0].items)[1].text));
  int64_t expected_stride = 1;
  for (size_t i = parts[2].items->size(); i-- > 0;) {
    const int64_t size = (*parts[2].items)[i].integer, stride = (*parts[3].items)[i].integer;
    if (size < 0 || size > (int64_t{1} << 31)) return absl::InvalidArgumentError("a tensor of an impossible shape");
    if (size != 1 && stride != expected_stride) return absl::InvalidArgumentError("a tensor that is not contiguous");
    if (size > 0 && expected_stride > (int64_t{1} << 40) / size) {
      return absl::InvalidArgumentError("a tensor of an impossible shape");
    }
    expected_stride *= size;
    view.shape.insert(view.shape.begin(), size);
  }
  const auto found = storages.find((*parts[0].items)[2].text);
  if (found == storages.end()) return absl::InvalidArgumentError("a tensor's storage is missing");
  const int64_t width = ElementSize(view.type), offset = parts[1].integer;
  const auto available = static_cast<int64_t>(found->second.size()) / width;
  if (offset < 0 || offset > available || expected_stride > available - offset) return CutOff();
  view.bytes = found->second.substr(static_cast<size_t>(offset * width), static_cast<size_t>(expected_stride * width));
  return view;
}

absl::StatusOr<std::map<std::string, ArrayView>> ArraysOf(const PickleValue& root, const Storages& storages) {
  if (root.kind != ValueKind::kDictionary) return absl::InvalidArgumentError("expected a dictionary of tensors (a state_dict)");
  std::map<std::string, ArrayView> arrays;
  for (const auto& [key, value] : *root.entries) {
    if (key.kind != ValueKind::kText || value.kind != ValueKind::kTensor) {
      return absl::InvalidArgumentError(fmt::format("entry '{}' is no tensor; expected a state_dict", key.text));
    }
    auto view = ViewOf(value, storages);
    if (!view.ok()) return Annotate(view.status(), key.text);
    arrays[key.text] = *std::move(view);
  }
  return arrays;
}

absl::StatusOr<std::map<std::string, ArrayView>> ReadArchive(std::string_view bytes) {
  LOUPE_ASSIGN_OR_RETURN(const auto entries, ReadStoredZip(bytes));
  std::string_view pickle;
  Storages storages;
  for (const auto& [name, content] : entries) {
    // "{archive}/data.pkl" and "{archive}/data/{key}"
    const size_t slash = name.find('/');
    if (slash == std::string::npos) continue;
    const std::string inner = name.substr(slash + 1);
    if (inner == "data.pkl") pickle = content;
    if (inner == "byteorder" && content != "little") return absl::InvalidArgumentError("a file of big-endian numbers");
    if (inner.starts_with("data/")) storages[inner.substr(5)] = content;
  }
  if (pickle.empty()) return absl::InvalidArgumentError("an archive without data.pkl; expected one that torch.save wrote");
  LOUPE_ASSIGN_OR_RETURN(const PickleValue root, ReadPickle(pickle));
  return ArraysOf(root, storages);
}

// Before PyTorch 1.6: magic number, version, system, the object, its storages' keys, then each storage as count and numbers.
absl::StatusOr<std::map<std::string, ArrayView>> ReadSequence(std::string_view bytes) {
  for (int i = 0; i < 3; ++i) LOUPE_RETURN_IF_ERROR(ReadPickle(bytes).status());
  LOUPE_ASSIGN_OR_RETURN(const PickleValue root, ReadPickle(bytes));
  LOUPE_ASSIGN_OR_RETURN(const PickleValue keys, ReadPickle(bytes));
  if (root.kind != ValueKind::kDictionary || keys.kind != ValueKind::kList) {
    return absl::InvalidArgumentError("expected a dictionary of tensors (a state_dict)");
  }
  std::map<std::string, int64_t> widths;
  for (const auto& [key, value] : *root.entries) {
    if (value.kind != ValueKind::kTensor || !IsStorageId((*value.items)[0])) continue;
    const auto& id = *(*value.items)[0].items;
    LOUPE_ASSIGN_OR_RETURN(const ElementType type, ElementTypeOfStorage(id[1].text));
    widths[id[2].text] = ElementSize(type);
  }
  Storages storages;
  for (const PickleValue& key : *keys.items) {
    if (bytes.size() < 8) return CutOff();
    const uint64_t count = NumberAt(bytes, 0, 8);
    const auto width = widths.find(key.text);
    if (width == widths.end()) return absl::InvalidArgumentError("a storage that no tensor uses");
    bytes.remove_prefix(8);
    if (count > bytes.size() / static_cast<uint64_t>(width->second)) return CutOff();
    const size_t size = count * static_cast<uint64_t>(width->second);
    storages[key.text] = bytes.substr(0, size);
    bytes.remove_prefix(size);
  }
  return ArraysOf(root, storages);
}

}  // namespace

absl::StatusOr<TorchCheckpoint> TorchCheckpoint::Open(const std::string& path) {
  TorchCheckpoint checkpoint;
  checkpoint.path_ = path;
  LOUPE_ASSIGN_OR_RETURN(std::string bytes, ReadFile(path));
  checkpoint.bytes_ = std::make_shared<const std::string>(std::move(bytes));
  const std::string_view all = *checkpoint.bytes_;
  auto arrays = all.starts_with("PK\3\4") ? ReadArchive(all) : ReadSequence(all);
  if (!arrays.ok()) return Annotate(arrays.status(), path + ": not weights that torch.save wrote");
  checkpoint.arrays_ = *std::move(arrays);
  return checkpoint;
}

}  // namespace loupe::worker
