#include "analysis/metrics/npy_file.h"

#include <bit>
#include <charconv>
#include <cstring>
#include <limits>
#include <optional>
#include <vector>

#include "common/atomic_file.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis::metrics {
namespace {

static_assert(std::endian::native == std::endian::little, "the array is copied as it lies in memory");

constexpr std::string_view kMagic("\x93NUMPY", 6);

absl::Status Bad(std::string_view why) {
  return absl::InvalidArgumentError(fmt::format("not a usable .npy array: {}", why));
}

// The text after `'key':` in the header's Python dictionary, blanks skipped.
std::optional<std::string_view> ValueOf(std::string_view header, std::string_view key) {
  const std::string quoted = fmt::format("'{}'", key);
  size_t at = header.find(quoted);
  if (at == std::string_view::npos) return std::nullopt;
  at = header.find(':', at + quoted.size());
  if (at == std::string_view::npos) return std::nullopt;
  at = header.find_first_not_of(" \t", at + 1);
  if (at == std::string_view::npos) return std::nullopt;
  return header.substr(at);
}

absl::StatusOr<std::vector<int64_t>> ParseShape(std::string_view text) {
  std::vector<int64_t> shape;
  const size_t end = text.find(')');
  if (text.empty() || text[0] != '(' || end == std::string_view::npos) return Bad("its header has no shape");
  const char* at = text.data() + 1;
  const char* const stop = text.data() + end;
  while (at < stop) {
    if (*at == ' ' || *at == ',') {
      ++at;
      continue;
    }
    int64_t size = 0;
    const auto [next, error] = std::from_chars(at, stop, size);
    if (error != std::errc() || size < 0) return Bad("its shape is not a list of counts");
    shape.push_back(size);
    at = next;
  }
  return shape;
}

}  // namespace

std::string SerializeNpy(const FeatureMatrix& features) {
  std::string header =
      fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", features.rows, features.cols);
  constexpr size_t kFixed = 10, kAlign = 64;  // magic, version, header length
  header.append((kAlign - (kFixed + header.size() + 1) % kAlign) % kAlign, ' ');
  header.push_back('\n');
  std::string bytes(kMagic);
  bytes.push_back(1);
  bytes.push_back(0);
  bytes.push_back(static_cast<char>(header.size() & 0xff));
  bytes.push_back(static_cast<char>(header.size() >> 8));
  bytes += header;
  bytes.append(reinterpret_cast<const char*>(features.values.data()), features.values.size() * sizeof(float));
  return bytes;
}

absl::StatusOr<FeatureMatrix> ParseNpy(std::string_view bytes) {
  if (bytes.size() < 10 || !bytes.starts_with(kMagic)) return Bad("it does not begin with numpy's magic bytes");
  const auto byte = [&](size_t at) { return static_cast<size_t>(static_cast<unsigned char>(bytes[at])); };
  const size_t version = byte(6);
  if (version < 1 || version > 3) return Bad(fmt::format("format version {} is unknown (1, 2 and 3 are)", version));
  const size_t header_begin = version == 1 ? 10 : 12;
  if (bytes.size() < header_begin) return Bad("it ends within its header");
  size_t header_size = byte(8) | byte(9) << 8;
  if (version > 1) header_size |= byte(10) << 16 | byte(11) << 24;
  if (header_size > bytes.size() - header_begin) return Bad("it ends within its header");
  const std::string_view header = bytes.substr(header_begin, header_size);
  const std::string_view data = bytes.substr(header_begin + header_size);

  const auto descr = ValueOf(header, "descr"), order = ValueOf(header, "fortran_order"),
             dims = ValueOf(header, "shape");
  if (!descr || !order || !dims) return Bad("its header lacks descr, fortran_order or shape");
  const bool single = descr->starts_with("'<f4'"), wide = descr->starts_with("'<f8'");
  if (!single && !wide) {
    return Bad(fmt::format("its type is {}; embeddings are '<f4' (or '<f8')", descr->substr(0, descr->find(','))));
  }
  if (!order->starts_with("False")) return Bad("it is in Fortran order; save it with numpy.ascontiguousarray");
  LOUPE_ASSIGN_OR_RETURN(const std::vector<int64_t> shape, ParseShape(*dims));
  if (shape.empty() || shape.size() > 2) {
    return Bad(fmt::format("it has {} dimensions; embeddings have 2 (items × features)", shape.size()));
  }
  FeatureMatrix features;
  features.rows = shape.size() == 1 ? 1 : shape[0];
  features.cols = shape.back();
  const uint64_t item = single ? 4 : 8;
  const uint64_t rows = static_cast<uint64_t>(features.rows), cols = static_cast<uint64_t>(features.cols);
  if (cols != 0 && rows > std::numeric_limits<uint64_t>::max() / item / cols) return Bad("its shape is absurdly large");
  if (rows * cols * item != data.size()) {
    return Bad(fmt::format("shape {} × {} needs {} bytes but {} follow the header", rows, cols, rows * cols * item,
                           data.size()));
  }
  features.values.resize(rows * cols);
  if (single) {
    if (!data.empty()) std::memcpy(features.values.data(), data.data(), data.size());
  } else {
    for (size_t i = 0; i < features.values.size(); ++i) {
      double value = 0;
      std::memcpy(&value, data.data() + i * sizeof(double), sizeof(double));
      features.values[i] = static_cast<float>(value);
    }
  }
  return features;
}

absl::Status WriteNpyFile(const std::string& path, const FeatureMatrix& features) {
  return WriteFileAtomically(path, SerializeNpy(features));
}

absl::StatusOr<FeatureMatrix> ReadNpyFile(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
  absl::StatusOr<FeatureMatrix> features = ParseNpy(bytes);
  if (!features.ok()) return Annotate(features.status(), path);
  return features;
}

}  // namespace loupe::analysis::metrics
