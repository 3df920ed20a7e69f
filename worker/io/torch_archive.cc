#include "worker/io/torch_archive.h"

#include <zlib.h>

#include <bit>
#include <cstdint>
#include <limits>
#include <string_view>
#include <utility>
#include <vector>

#include "common/atomic_file.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::worker::io {
namespace {

constexpr size_t kAlignment = 64;

// Little-endian.
void AppendNumber(std::string& out, uint64_t number, int bytes) {
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<char>(number >> (8 * i) & 0xff));
}

// Stored entries one after another, then the directory (APPNOTE.TXT sections 4.3.7, 4.3.12 and 4.3.16).
class StoredZip {
 public:
  void Add(const std::string& name, std::string_view content) {
    const auto offset = bytes_.size();
    const auto checksum = ::crc32_z(0, reinterpret_cast<const Bytef*>(content.data()), content.size());
    std::string shared;              // what both headers say
    AppendNumber(shared, 0, 2 + 2);  // flags; method: stored
    AppendNumber(shared, 0, 2);      // time
    AppendNumber(shared, 0x21, 2);   // date: 1 January 1980
    AppendNumber(shared, checksum, 4);
    AppendNumber(shared, content.size(), 4);
    AppendNumber(shared, content.size(), 4);
    AppendNumber(shared, name.size(), 2);
    // An extra field "FB" of whatever length aligns the content, as PyTorch has it.
    const size_t unpadded = offset + kLocalHeader + name.size() + kExtraHeader;
    const size_t padding = (kAlignment - unpadded % kAlignment) % kAlignment;

    bytes_ += "PK\3\4";
    AppendNumber(bytes_, kVersion, 2);
    bytes_ += shared;
    AppendNumber(bytes_, kExtraHeader + padding, 2);
    bytes_ += name + "FB";
    AppendNumber(bytes_, padding, 2);
    bytes_.append(padding, 'Z');
    bytes_ += content;

    directory_ += "PK\1\2";
    AppendNumber(directory_, kVersion, 2);
    AppendNumber(directory_, kVersion, 2);
    directory_ += shared;
    AppendNumber(directory_, 0, 2 + 2 + 2 + 2);  // no extra field, no comment, disk 0, no internal attributes
    AppendNumber(directory_, 0, 4);              // external attributes
    AppendNumber(directory_, offset, 4);
    directory_ += name;
    ++count_;
  }

  absl::StatusOr<std::string> Finish() && {
    const size_t start = bytes_.size();
    if (start + directory_.size() > std::numeric_limits<uint32_t>::max() ||
        count_ > std::numeric_limits<uint16_t>::max()) {
      return absl::InvalidArgumentError(
          fmt::format("{} entries of {} bytes are more than a zip archive holds", count_, start));
    }
    bytes_ += directory_ + "PK\5\6";
    AppendNumber(bytes_, 0, 2 + 2);  // one disk
    AppendNumber(bytes_, count_, 2);
    AppendNumber(bytes_, count_, 2);
    AppendNumber(bytes_, directory_.size(), 4);
    AppendNumber(bytes_, start, 4);
    AppendNumber(bytes_, 0, 2);  // no comment
    return std::move(bytes_);
  }

 private:
  static constexpr size_t kLocalHeader = 30, kExtraHeader = 4;
  static constexpr uint64_t kVersion = 20;
  std::string bytes_, directory_;
  uint64_t count_ = 0;
};

// Opcodes by their names in Python's pickletools.
class PickleWriter {
 public:
  std::string Write(const std::map<std::string, ArrayView>& arrays) && {
    out_ = "\x80\x02}(";  // PROTO 2, EMPTY_DICT, MARK
    size_t key = 0;
    for (const auto& [name, array] : arrays) {
      Text(name);
      Tensor(array, fmt::format("{}", key++));
    }
    out_ += "u.";  // SETITEMS, STOP
    return std::move(out_);
  }

  // Arrays are met in the order in which `arrays` then has them: keys 0, 1, …
  std::string Write(const TorchValue& value, std::vector<ArrayView>& arrays) && {
    out_ = "\x80\x02";
    Value(value, arrays);
    out_ += '.';
    return std::move(out_);
  }

 private:
  void Value(const TorchValue& given, std::vector<ArrayView>& arrays) {
    const auto values = [&](const std::vector<TorchValue>& items) {
      for (const TorchValue& item : items) Value(item, arrays);
    };
    const auto& value = given.value;
    if (std::holds_alternative<std::monostate>(value)) out_ += 'N';
    if (const auto* truth = std::get_if<bool>(&value)) out_ += *truth ? '\x88' : '\x89';
    if (const auto* number = std::get_if<int64_t>(&value)) Integer(*number);
    if (const auto* number = std::get_if<double>(&value)) {  // BINFLOAT, big-endian
      out_ += 'G';
      AppendNumber(out_, __builtin_bswap64(std::bit_cast<uint64_t>(*number)), 8);
    }
    if (const auto* text = std::get_if<std::string>(&value)) Text(*text);
    if (const auto* array = std::get_if<ArrayView>(&value)) {
      Tensor(*array, fmt::format("{}", arrays.size()));
      arrays.push_back(*array);
    }
    if (const auto* list = std::get_if<TorchValue::List>(&value)) {  // EMPTY_LIST, MARK … APPENDS
      out_ += "](";
      values(*list);
      out_ += 'e';
    }
    if (const auto* tuple = std::get_if<TorchValue::Tuple>(&value)) {
      out_ += '(';
      values(tuple->items);
      out_ += 't';
    }
    if (const auto* dictionary = std::get_if<TorchValue::Dictionary>(&value)) {
      out_ += "}(";
      for (const auto& [key, item] : dictionary->entries) {
        Value(key, arrays);
        Value(item, arrays);
      }
      out_ += 'u';
    }
  }
  void Text(std::string_view text) {  // BINUNICODE
    out_ += 'X';
    AppendNumber(out_, text.size(), 4);
    out_ += text;
  }
  void Integer(int64_t value) {  // LONG1 of eight bytes
    out_ += "\x8a\x08";
    AppendNumber(out_, static_cast<uint64_t>(value), 8);
  }
  void Global(std::string_view module, std::string_view name) { out_ += fmt::format("c{}\n{}\n", module, name); }
  void Tuple(const std::vector<int64_t>& values) {  // MARK … TUPLE
    out_ += '(';
    for (const int64_t value : values) Integer(value);
    out_ += 't';
  }

  void Tensor(const ArrayView& array, const std::string& key) {
    std::vector<int64_t> strides(array.shape.size());
    int64_t count = 1;
    for (size_t i = array.shape.size(); i-- > 0;) {
      strides[i] = count;
      count *= array.shape[i];
    }
    Global("torch._utils", "_rebuild_tensor_v2");
    out_ += "((";
    Text("storage");
    Global("torch", TorchStorageClass(array.type));
    Text(key);
    Text("cpu");
    Integer(count);
    out_ += "tQ";  // TUPLE, BINPERSID
    Integer(0);
    Tuple(array.shape);
    Tuple(strides);
    out_ += '\x89';  // NEWFALSE: no gradients
    Global("collections", "OrderedDict");
    out_ += ")RtR";  // EMPTY_TUPLE, REDUCE; TUPLE, REDUCE
  }

  std::string out_;
};

absl::Status CheckHasStorageClass(const ArrayView& array) {
  if (!TorchStorageClass(array.type).empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format(
      "it is of type {}, for which torch.save's files have no class of their own", ElementTypeName(array.type)));
}

}  // namespace

std::string_view TorchStorageClass(ElementType type) {
  switch (type) {
    case ElementType::kF16:
      return "HalfStorage";
    case ElementType::kBF16:
      return "BFloat16Storage";
    case ElementType::kF32:
      return "FloatStorage";
    case ElementType::kF64:
      return "DoubleStorage";
    case ElementType::kC64:
      return "ComplexFloatStorage";
    case ElementType::kI64:
      return "LongStorage";
    case ElementType::kI32:
      return "IntStorage";
    case ElementType::kI16:
      return "ShortStorage";
    case ElementType::kI8:
      return "CharStorage";
    case ElementType::kU8:
      return "ByteStorage";
    case ElementType::kBool:
      return "BoolStorage";
    default:
      return "";  // written by torch.save as untyped storages
  }
}

absl::StatusOr<std::string> SerialiseTorchArchive(const std::map<std::string, ArrayView>& arrays) {
  for (const auto& [name, array] : arrays) {
    if (absl::Status status = CheckHasStorageClass(array); !status.ok()) return Annotate(status, name);
  }
  StoredZip zip;
  zip.Add("archive/data.pkl", PickleWriter().Write(arrays));
  zip.Add("archive/byteorder", "little");
  size_t key = 0;
  for (const auto& [name, array] : arrays) zip.Add(fmt::format("archive/data/{}", key++), array.bytes);
  zip.Add("archive/version", "3\n");
  return std::move(zip).Finish();
}

absl::StatusOr<std::string> SerialiseTorchValue(const TorchValue& value) {
  std::vector<ArrayView> arrays;
  StoredZip zip;
  zip.Add("archive/data.pkl", PickleWriter().Write(value, arrays));
  size_t key = 0;
  for (const ArrayView& array : arrays) {
    LOUPE_RETURN_IF_ERROR(CheckHasStorageClass(array));
    zip.Add(fmt::format("archive/data/{}", key++), array.bytes);
  }
  zip.Add("archive/version", "3\n");
  return std::move(zip).Finish();
}

absl::Status WriteTorchValue(const std::string& path, const TorchValue& value) {
  auto bytes = SerialiseTorchValue(value);
  if (!bytes.ok()) return Annotate(bytes.status(), path);
  return WriteFileAtomically(path, *bytes);
}

absl::Status WriteTorchArchive(const std::string& path, const std::map<std::string, ArrayView>& arrays) {
  auto bytes = SerialiseTorchArchive(arrays);
  if (!bytes.ok()) return Annotate(bytes.status(), path);
  return WriteFileAtomically(path, *bytes);
}

}  // namespace loupe::worker::io
