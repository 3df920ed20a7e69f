// What a program that this one starts is given: its words, an environment, and files in memory to read and to write.
#pragma once

#include <cstddef>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace loupe {

// As exec and posix_spawn take them: pointers into `words`, which must outlive them, and a null pointer at the end.
std::vector<char*> ArgumentsOf(const std::vector<std::string>& words);

// This process's environment without this project's own variables (LOUPE_…): what they hold, a token among it, is not
// for other programs. Pointers into `environ`, and a null pointer at the end.
std::vector<char*> EnvironmentForOthers();

// A file in memory that is one program's standard input, output or errors: unlike a pipe it makes nobody wait, whatever
// is read and written, or left running. Closed by exec; not by dup2.
class MemoryFile {
 public:
  // `name` is for /proc alone. `text` is there to be read from the start.
  explicit MemoryFile(const char* name, std::string_view text = "");
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  // Else there was no memory for it: errno says so after the constructor.
  bool good() const { return good_; }
  int fd() const { return fd_; }
  // From its start.
  std::string Text(size_t most_bytes = std::numeric_limits<size_t>::max()) const;

 private:
  const int fd_;
  bool good_ = false;
};

}  // namespace loupe
