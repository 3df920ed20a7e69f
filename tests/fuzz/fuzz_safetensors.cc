// safetensors files: whatever the bytes, an error or arrays that tile the file's data part; what is read can be
// written, and is then read as the same.
#include "tests/fuzz/array_bytes.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/input_file.h"
#include "worker/io/safetensors.h"

namespace loupe::fuzz {
namespace {

using worker::io::ArrayView;
using worker::io::ElementType;
using worker::io::SafetensorsFile;

std::string WithHeader(const std::string& header, const std::string& data) {
  const uint64_t size = header.size();
  return std::string(reinterpret_cast<const char*>(&size), sizeof(size)) + header + data;
}

bool Same(const SafetensorsFile& a, const SafetensorsFile& b) {
  return a.metadata() == b.metadata() && std::equal(a.arrays().begin(), a.arrays().end(), b.arrays().begin(),
                                                    b.arrays().end(), [](const auto& x, const auto& y) {
                                                      return x.first == y.first && x.second.type == y.second.type &&
                                                             x.second.shape == y.second.shape &&
                                                             x.second.bytes == y.second.bytes;
                                                    });
}

}  // namespace

std::vector<std::string> Seeds() {
  const std::string data(64, '\x3c');
  const std::map<std::string, ArrayView> arrays = {
      {"down", {ElementType::kF16, {2, 3}, std::string_view(data).substr(0, 12)}},
      {"up", {ElementType::kF32, {2, 2}, std::string_view(data).substr(0, 16)}},
      {"step", {ElementType::kI64, {}, std::string_view(data).substr(0, 8)}},
      {"none", {ElementType::kU8, {0, 7}, {}}}};
  return {
      *worker::io::SerialiseSafetensors(arrays, {{"method", "adapter"}, {"note", "\"\\\n"}}),
      *worker::io::SerialiseSafetensors({}, {}),
      WithHeader(
          R"({"a":{"dtype":"BF16","shape":[2],"data_offsets":[4,8]},"b":{"dtype":"I32","shape":[1,1],"data_offsets":[0,4]}}  )",
          data.substr(0, 8)),
      WithHeader(R"({"a":{"dtype":"F64","shape":[2147483648,2147483648,4],"data_offsets":[0,0]}})", ""),
      WithHeader(
          R"({"__metadata__":null,"a":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4],"x":[{}]},"b":{"dtype":"BOOL","shape":[0],"data_offsets":[0,0]}})",
          data.substr(0, 4)),
      WithHeader(
          R"({"a":{"dtype":"F4","shape":[2,3],"data_offsets":[0,3]},"b":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[3,6]}})",
          data.substr(0, 6)),
      WithHeader("[[[[[[[[", "")};
}

std::vector<std::string> Dictionary() {
  return {"\"dtype\":",
          "\"shape\":",
          "\"data_offsets\":",
          "\"__metadata__\":",
          "\"F16\"",
          "\"BF16\"",
          "\"F32\"",
          "\"F64\"",
          "\"I64\"",
          "\"I32\"",
          "\"U8\"",
          "\"F8_E5M2\"",
          "\"F4\"",
          "\"F6_E3M2\"",
          "\"BOOL\"",
          "\"C64\"",
          "\"U16\"",
          "[0,0]",
          "[",
          "]",
          "{",
          "}",
          ":",
          ",",
          "\"\"",
          "-1",
          "1e9",
          "1.5",
          "9223372036854775808",
          "18446744073709551615",
          "4294967296",
          "\\u0000",
          "\\ud800",
          "null",
          "[[[[[[[[[[[[[[[["};
}

int DefaultRuns() { return 20000; }

}  // namespace loupe::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace loupe;          // NOLINT: one function
  using namespace loupe::worker;  // NOLINT
  const fuzz::InputFile input({reinterpret_cast<const char*>(data), size});
  const auto file = worker::io::SafetensorsFile::Open(input.path());
  if (!file.ok()) {
    fuzz::Require(absl::IsInvalidArgument(file.status()), "a bad file is INVALID_ARGUMENT");
    return 0;
  }
  size_t covered = 0;
  for (const auto& [name, array] : file->arrays()) {
    const size_t count = fuzz::BytesOfShape(array);
    fuzz::Require(count == array.bytes.size(), "an array's bytes fit its shape");
    covered += count;
  }
  uint64_t header_size = 0;
  std::copy_n(data, sizeof(header_size), reinterpret_cast<uint8_t*>(&header_size));
  fuzz::Require(covered == size - sizeof(header_size) - header_size, "the arrays tile the data part");

  const auto written = io::SerialiseSafetensors(file->arrays(), file->metadata());
  if (file->arrays().contains("")) {
    fuzz::Require(!written.ok(), "an empty name is not written");
    return 0;
  }
  fuzz::Require(written.ok(), "what is read can be written");
  const fuzz::InputFile copy(*written);
  const auto again = worker::io::SafetensorsFile::Open(copy.path());
  fuzz::Require(again.ok() && fuzz::Same(*file, *again), "what is written reads back the same");
  fuzz::Require(*io::SerialiseSafetensors(again->arrays(), again->metadata()) == *written,
                "the same content gives the same bytes");
  return 0;
}
