// An input as a file: for readers that take a path.
#pragma once

#include <string>
#include <string_view>

namespace loupe::fuzz {

// In memory only, and gone with the object.
class InputFile {
 public:
  explicit InputFile(std::string_view bytes);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::string& path() const { return path_; }

 private:
  int fd_;
  std::string path_;
};

}  // namespace loupe::fuzz
