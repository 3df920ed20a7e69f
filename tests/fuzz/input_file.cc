#include "tests/fuzz/input_file.h"

#include <sys/mman.h>
#include <unistd.h>

#include "tests/fuzz/fuzz_target.h"

namespace loupe::fuzz {

InputFile::InputFile(std::string_view bytes)
    : fd_(::memfd_create("fuzz", MFD_CLOEXEC)), path_("/proc/self/fd/" + std::to_string(fd_)) {
  Require(fd_ >= 0, "a file in memory can be made");
  Require(::write(fd_, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()), "it can be written");
}

InputFile::~InputFile() { ::close(fd_); }

}  // namespace loupe::fuzz
