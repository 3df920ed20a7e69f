// .pth files: an error that names the file, or arrays that lie in it and fit their shapes; what is read can be written
// as torch.save would, and is then read as the same.
#include "absl/status/status.h"
#include "tests/fuzz/array_bytes.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/input_file.h"
#include "worker/io/torch_archive.h"
#include "worker/io/torch_checkpoint.h"

namespace loupe::fuzz {
namespace {

using worker::io::ElementType;

// The form before PyTorch 1.6: magic number, version, system, the dictionary, its storages' keys, the storages.
std::string OlderForm() {
  using std::string_literals::operator""s;
  const std::string magic = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
  const std::string version = "\x80\x02M\xe9\x03.";
  const std::string system = "\x80\x02}q\0(X\x10\0\0\0protocol_versionM\xe9\x03X\r\0\0\0little_endian\x88u."s;
  const std::string content =
      "\x80\x02"s
      "ccollections\nOrderedDict\n)Rq\0(X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storage"s
      "ctorch\nFloatStorage\nX\x01\0\0\0"
      "7X\x03\0\0\0cpuK\x02NtQK\0K\x02\x85K\x01\x85\x89"
      "ccollections\nOrderedDict\n)RtRu"s
      "}X\x09\0\0\0_metadata}sb."s;
  const std::string keys =
      "\x80\x02]q\0X\x01\0\0\0"s
      "7a."s;
  return magic + version + system + content + keys + "\x02\0\0\0\0\0\0\0\0\0\x80\x3f\0\0\0\x40"s;
}

}  // namespace

std::vector<std::string> Seeds() {
  const std::string data(64, '\x3c');
  const std::string_view all = data;
  return {*worker::io::SerialiseTorchArchive({{"down", {ElementType::kF16, {2, 3}, all.substr(0, 12)}},
                                              {"up", {ElementType::kF32, {2, 2}, all.substr(0, 16)}},
                                              {"step", {ElementType::kI64, {}, all.substr(0, 8)}}}),
          *worker::io::SerialiseTorchArchive({}), OlderForm(), "\x80\x02]q.", "PK\x03\x04"};
}

std::vector<std::string> Dictionary() {
  return {"PK\x01\x02",
          "PK\x03\x04",
          "PK\x05\x06",
          "data.pkl",
          "/data/0",
          "byteorder",
          "little",
          "ctorch\nFloatStorage\n",
          "ctorch\nByteStorage\n",
          "ctorch._utils\n_rebuild_tensor_v2\n",
          "ctorch._utils\n_rebuild_parameter\n",
          "ccollections\nOrderedDict\n",
          "cposix\nsystem\n",
          "tQ",
          "tR",
          ")R",
          "}(",
          "u.",
          "\x8a\x08",
          "\x8a\xff",
          "\x85",
          "\x86",
          "\x87",
          "\x85\x85\x85\x85\x85\x85\x85\x85",
          "\x94",
          "h\x01",
          "q\x01",
          "e.",
          "a.",
          "s.",
          "b.",
          "\x93",
          "\x80\x05"};
}

int DefaultRuns() { return 20000; }

}  // namespace loupe::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace loupe;          // NOLINT: one function
  using namespace loupe::worker;  // NOLINT
  const fuzz::InputFile input({reinterpret_cast<const char*>(data), size});
  const auto file = io::TorchCheckpoint::Open(input.path());
  if (!file.ok()) {
    fuzz::Require(absl::IsInvalidArgument(file.status()) &&
                      file.status().message().find(input.path().c_str()) != absl::string_view::npos,
                  "a refusal names the file");
    return 0;
  }
  for (const auto& [name, array] : file->arrays()) {
    const size_t count = fuzz::BytesOfShape(array);
    fuzz::Require(count == array.bytes.size() && count <= size, "an array's bytes fit its shape");
  }
  const auto written = io::SerialiseTorchArchive(file->arrays());
  fuzz::Require(written.ok(), "what is read can be written");
  const fuzz::InputFile copy(*written);
  const auto again = io::TorchCheckpoint::Open(copy.path());
  fuzz::Require(again.ok(), "what is written can be read");
  fuzz::Require(*io::SerialiseTorchArchive(again->arrays()) == *written, "and is the same");
  return 0;
}
