#include "worker/io/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <optional>
#include <set>
#include <utility>

#include "common/atomic_file.h"
#include "common/lfs_pointer.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "nlohmann/json.hpp"

namespace loupe::worker::io {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr std::string_view kMetadataKey = "__metadata__";

struct TypeRow {
  ElementType type;
  std::string_view name;
  int64_t bits;
};
constexpr TypeRow kTypes[] = {
    {ElementType::kF16, "F16", 16},
    {ElementType::kBF16, "BF16", 16},
    {ElementType::kF32, "F32", 32},
    {ElementType::kF64, "F64", 64},
    {ElementType::kI64, "I64", 64},
    {ElementType::kI32, "I32", 32},
    {ElementType::kU8, "U8", 8},
    {ElementType::kBool, "BOOL", 8},
    {ElementType::kI8, "I8", 8},
    {ElementType::kI16, "I16", 16},
    {ElementType::kU16, "U16", 16},
    {ElementType::kU32, "U32", 32},
    {ElementType::kU64, "U64", 64},
    {ElementType::kC64, "C64", 64},
    {ElementType::kF8E4M3, "F8_E4M3", 8},
    {ElementType::kF8E5M2, "F8_E5M2", 8},
    {ElementType::kF8E4M3Fnuz, "F8_E4M3FNUZ", 8},
    {ElementType::kF8E5M2Fnuz, "F8_E5M2FNUZ", 8},
    {ElementType::kF8E8M0, "F8_E8M0", 8},
    {ElementType::kF6E2M3, "F6_E2M3", 6},
    {ElementType::kF6E3M2, "F6_E3M2", 6},
    {ElementType::kF4, "F4", 4},
};

const TypeRow& RowOf(ElementType type) {
  return *std::find_if(std::begin(kTypes), std::end(kTypes), [&](const TypeRow& row) { return row.type == type; });
}

absl::Status Malformed(const std::string& path, const std::string& what) {
  return absl::InvalidArgumentError(fmt::format("{}: not a valid safetensors file: {}", path, what));
}

// The product of the shape and the element size; nothing if negative, over int64 or no whole number of bytes.
std::optional<int64_t> ByteCount(const std::vector<int64_t>& shape, ElementType type) {
  int64_t bits = RowOf(type).bits;
  for (const int64_t extent : shape) {
    if (extent < 0 || __builtin_mul_overflow(bits, extent, &bits)) return std::nullopt;
  }
  if (bits % 8 != 0) return std::nullopt;
  return bits / 8;
}

absl::StatusOr<std::shared_ptr<const std::string_view>> MapFile(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    const std::string what = fmt::format("{}: cannot be opened: {}", path, std::strerror(errno));
    if (errno == ENOENT) return absl::NotFoundError(what);
    return errno == EACCES ? absl::PermissionDeniedError(what) : absl::InternalError(what);
  }
  struct stat info {};
  const bool is_file = ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
  const size_t size = is_file ? static_cast<size_t>(info.st_size) : 0;
  void* data = size > 0 ? ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0) : nullptr;
  const int map_errno = errno;
  ::close(fd);
  if (!is_file) return absl::InvalidArgumentError(fmt::format("{}: not a regular file", path));
  if (data == MAP_FAILED) {
    return absl::InternalError(fmt::format("{}: cannot be mapped: {}", path, std::strerror(map_errno)));
  }
  return std::shared_ptr<const std::string_view>(new std::string_view(static_cast<const char*>(data), size),
                                                 [](const std::string_view* view) {
                                                   if (!view->empty())
                                                     ::munmap(const_cast<char*>(view->data()), view->size());
                                                   delete view;
                                                 });
}

absl::StatusOr<json> ParseHeader(const std::string& path, std::string_view text) {
  // An array's name, or one of its fields, must not stand there twice.
  std::set<std::string> names, fields;
  std::string name, repeated;
  bool is_too_deep = false;
  const auto note_names = [&](int depth, json::parse_event_t event, json& parsed) {
    // A shape's numbers are on the third level. The JSON library writes values, for messages, by calling itself once
    // per level.
    is_too_deep = is_too_deep || depth > 100;
    if (is_too_deep) return false;
    if (event != json::parse_event_t::key || depth > 2) return true;
    const auto& key = parsed.get_ref<const std::string&>();
    if (depth == 1) {
      name = key;
      fields.clear();
      if (!names.insert(key).second) repeated = key;
    } else if (name != kMetadataKey && !fields.insert(key).second) {
      repeated = name + "'s '" + key;
    }
    return true;
  };
  // The JSON library takes a byte order mark for nothing and a zero byte for the end.
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos || text[begin] != '{' || text.find('\0') != std::string_view::npos) {
    return Malformed(path, "its header is not a JSON object");
  }
  json header = json::parse(text.begin(), text.end(), note_names, /*allow_exceptions=*/false);
  if (is_too_deep) return Malformed(path, "its header has lists or objects far deeper than an array's shape");
  if (header.is_discarded()) return Malformed(path, "its header is not JSON");
  if (!repeated.empty()) return Malformed(path, fmt::format("its header names '{}' twice", repeated));
  return header;
}

absl::StatusOr<int64_t> NonNegative(const std::string& path, const std::string& name, const json& value,
                                    std::string_view what) {
  if (!value.is_number_unsigned() ||
      value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return Malformed(path, fmt::format("'{}' has {} {}, expected a whole number ≥ 0", name, what, value.dump()));
  }
  return value.get<int64_t>();
}

// An array and where it lies in the data part.
struct Placed {
  ArrayView array;
  int64_t begin;
  int64_t end;
};

absl::StatusOr<Placed> ParseArray(const std::string& path, const std::string& name, const json& entry,
                                  std::string_view data) {
  if (!entry.is_object() || !entry.contains("dtype") || !entry.contains("shape") || !entry.contains("data_offsets") ||
      !entry["dtype"].is_string() || !entry["shape"].is_array() || !entry["data_offsets"].is_array() ||
      entry["data_offsets"].size() != 2) {
    return Malformed(path, fmt::format("'{}' is not {{dtype, shape, data_offsets: [begin, end]}}", name));
  }
  const auto& type_name = entry["dtype"].get_ref<const std::string&>();
  const auto* row =
      std::find_if(std::begin(kTypes), std::end(kTypes), [&](const TypeRow& r) { return r.name == type_name; });
  if (row == std::end(kTypes)) {
    std::string known;
    for (const TypeRow& each : kTypes) known += (known.empty() ? "" : ", ") + std::string(each.name);
    return Malformed(path, fmt::format("'{}' has dtype {}, expected one of {}", name, entry["dtype"].dump(), known));
  }
  Placed placed{{row->type, {}, {}}, 0, 0};
  for (const json& extent : entry["shape"]) {
    LOUPE_ASSIGN_OR_RETURN(const int64_t value, NonNegative(path, name, extent, "an extent of"));
    placed.array.shape.push_back(value);
  }
  LOUPE_ASSIGN_OR_RETURN(placed.begin, NonNegative(path, name, entry["data_offsets"][0], "a first offset of"));
  LOUPE_ASSIGN_OR_RETURN(placed.end, NonNegative(path, name, entry["data_offsets"][1], "an end offset of"));
  if (placed.begin > placed.end || placed.end > static_cast<int64_t>(data.size())) {
    return Malformed(path, fmt::format("'{}' lies at bytes [{}, {}) of {} data bytes (a truncated file?)", name,
                                       placed.begin, placed.end, data.size()));
  }
  const std::optional<int64_t> expected = ByteCount(placed.array.shape, placed.array.type);
  if (!expected || *expected != placed.end - placed.begin) {
    return Malformed(path, fmt::format("'{}' of shape {} and dtype {} does not fill its {} bytes", name,
                                       entry["shape"].dump(), type_name, placed.end - placed.begin));
  }
  placed.array.bytes = data.substr(static_cast<size_t>(placed.begin), static_cast<size_t>(placed.end - placed.begin));
  return placed;
}

// The arrays must tile the data part: no overlap, no gap, nothing after the last.
absl::Status CheckTiling(const std::string& path,
                         std::vector<std::pair<std::pair<int64_t, int64_t>, std::string>> spans, size_t data_size) {
  std::sort(spans.begin(), spans.end());
  int64_t reached = 0;
  for (const auto& [span, name] : spans) {
    if (span.first != reached) {
      return Malformed(path, fmt::format("'{}' begins at byte {} where byte {} was expected ({})", name, span.first,
                                         reached, span.first < reached ? "arrays overlap" : "a gap"));
    }
    reached = span.second;
  }
  if (reached != static_cast<int64_t>(data_size)) {
    return Malformed(path, fmt::format("its arrays end at byte {} of {} data bytes", reached, data_size));
  }
  return absl::OkStatus();
}

}  // namespace

std::string_view ElementTypeName(ElementType type) { return RowOf(type).name; }
int64_t ElementBits(ElementType type) { return RowOf(type).bits; }

absl::StatusOr<SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  SafetensorsFile file;
  file.path_ = path;
  LOUPE_ASSIGN_OR_RETURN(file.map_, MapFile(path));
  const std::string_view all = *file.map_;
  LOUPE_RETURN_IF_ERROR(CheckIsNoLfsPointer(path, all));
  uint64_t header_size = 0;
  if (all.size() < sizeof(header_size)) return Malformed(path, fmt::format("it has only {} bytes", all.size()));
  std::memcpy(&header_size, all.data(), sizeof(header_size));
  if (header_size > kMaxHeaderBytes) {
    return Malformed(path, fmt::format("its header would have {} bytes, over {}", header_size, kMaxHeaderBytes));
  }
  if (header_size > all.size() - sizeof(header_size)) {
    return Malformed(path, fmt::format("its header would have {} bytes, but the file has {} (a truncated file?)",
                                       header_size, all.size()));
  }
  LOUPE_ASSIGN_OR_RETURN(const json header, ParseHeader(path, all.substr(sizeof(header_size), header_size)));
  const std::string_view data = all.substr(sizeof(header_size) + header_size);

  std::vector<std::pair<std::pair<int64_t, int64_t>, std::string>> spans;
  for (const auto& [name, entry] : header.items()) {
    if (name == kMetadataKey) {
      if (entry.is_null()) continue;
      if (!entry.is_object()) return Malformed(path, "its __metadata__ is not an object");
      for (const auto& [key, value] : entry.items()) {
        if (!value.is_string()) return Malformed(path, fmt::format("its metadata '{}' is not a string", key));
        file.metadata_[key] = value.get<std::string>();
      }
      continue;
    }
    LOUPE_ASSIGN_OR_RETURN(Placed placed, ParseArray(path, name, entry, data));
    spans.push_back({{placed.begin, placed.end}, name});
    file.arrays_.emplace(name, std::move(placed.array));
  }
  LOUPE_RETURN_IF_ERROR(CheckTiling(path, std::move(spans), data.size()));
  return file;
}

absl::StatusOr<std::string> SerialiseSafetensors(const std::map<std::string, ArrayView>& arrays,
                                                 const Metadata& metadata) {
  std::vector<const std::pair<const std::string, ArrayView>*> order;
  for (const auto& named : arrays) {
    const auto& [name, array] = named;
    const std::optional<int64_t> bytes = ByteCount(array.shape, array.type);
    if (!bytes || *bytes != static_cast<int64_t>(array.bytes.size()) || name.empty() || name == kMetadataKey) {
      return absl::InvalidArgumentError(fmt::format(
          "array '{}' cannot be written: a bad name, or {} bytes do not fit its shape", name, array.bytes.size()));
    }
    order.push_back(&named);
  }
  std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return ElementBits(a->second.type) > ElementBits(b->second.type);
  });

  json header = json::object();
  if (!metadata.empty()) header[std::string(kMetadataKey)] = metadata;
  uint64_t offset = 0;
  for (const auto* named : order) {
    const ArrayView& array = named->second;
    header[named->first] = {{"dtype", std::string(ElementTypeName(array.type))},
                            {"shape", array.shape},
                            {"data_offsets", {offset, offset + array.bytes.size()}}};
    offset += array.bytes.size();
  }
  // Not UTF-8? Then it would not be JSON; replacing is better than throwing over a stray byte in a path or caption.
  std::string text = header.dump(-1, ' ', false, json::error_handler_t::replace);
  text.append((8 - text.size() % 8) % 8, ' ');

  const uint64_t header_size = text.size();
  std::string out;
  out.reserve(sizeof(header_size) + text.size() + offset);
  out.append(reinterpret_cast<const char*>(&header_size), sizeof(header_size));
  out.append(text);
  for (const auto* named : order) out.append(named->second.bytes);
  return out;
}

absl::Status WriteSafetensors(const std::string& path, const std::map<std::string, ArrayView>& arrays,
                              const Metadata& metadata) {
  auto bytes = SerialiseSafetensors(arrays, metadata);
  if (!bytes.ok()) return Annotate(bytes.status(), path);
  return WriteFileAtomically(path, *bytes);
}

}  // namespace loupe::worker::io
