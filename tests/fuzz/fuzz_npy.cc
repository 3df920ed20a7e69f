// .npy arrays of embeddings: an error in a sentence, or a matrix whose law holds and that survives writing bit for bit.
#include <cstring>

#include "absl/status/status.h"
#include "analysis/metrics/npy_file.h"
#include "tests/fuzz/fuzz_target.h"

namespace loupe::fuzz {
namespace {

std::string Npy(const std::string& header, const std::string& data, char version = 1) {
  std::string bytes = "\x93NUMPY";
  bytes.push_back(version);
  bytes.push_back('\0');
  for (int i = 0; i < (version == 1 ? 2 : 4); ++i) bytes.push_back(static_cast<char>(header.size() >> (8 * i) & 0xff));
  return bytes + header + data;
}

}  // namespace

std::vector<std::string> Seeds() {
  const std::string data("\0\0\x80\x3f\0\0\0\x40\0\0\xc0\x7f\0\0\x80\xff", 16);
  return {analysis::metrics::SerializeNpy({2, 3, {1, 2, 3, 4, 5, 6}}),
          analysis::metrics::SerializeNpy({0, 512, {}}),
          Npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }\n", data),
          Npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2), }\n", data, 2),
          Npy("{'shape':(2,2),'descr':'<f4','fortran_order':False}", data, 3),
          Npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }\n", data),
          Npy("{'descr': '<i8', 'fortran_order': False, 'shape': (2,), }\n", data)};
}

std::vector<std::string> Dictionary() {
  return {"'descr'",
          "'fortran_order'",
          "'shape'",
          "'<f4'",
          "'<f8'",
          "'>f4'",
          "'|O'",
          "False",
          "True",
          "(",
          ")",
          ",",
          ":",
          "{",
          "}",
          "(0, 4294967296)",
          "4294967296",
          "4611686018427387904",
          "9223372036854775807",
          "9223372036854775808",
          "-1",
          "0",
          "1"};
}

int DefaultRuns() { return 20000; }

}  // namespace loupe::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace loupe;  // NOLINT: one function
  const auto read = analysis::metrics::ParseNpy({reinterpret_cast<const char*>(data), size});
  if (!read.ok()) {
    fuzz::Require(absl::IsInvalidArgument(read.status()) && !read.status().message().empty(),
                  "a refusal is a sentence");
    return 0;
  }
  fuzz::Require(
      read->rows >= 0 && read->cols >= 0 && static_cast<size_t>(read->rows * read->cols) == read->values.size(),
      "as many values as rows and columns say");
  (void)analysis::metrics::CheckFeatures(*read, "fuzz", 1);
  const auto again = analysis::metrics::ParseNpy(analysis::metrics::SerializeNpy(*read));
  fuzz::Require(again.ok() && again->rows == read->rows && again->cols == read->cols &&
                    again->values.size() == read->values.size() &&
                    (read->values.empty() ||
                     std::memcmp(again->values.data(), read->values.data(), read->values.size() * sizeof(float)) == 0),
                "a matrix survives writing");
  return 0;
}
