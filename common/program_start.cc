#include "common/program_start.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

extern char** environ;

namespace loupe {

std::vector<char*> ArgumentsOf(const std::vector<std::string>& words) {
  std::vector<char*> arguments;
  arguments.reserve(words.size() + 1);
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  return arguments;
}

std::vector<char*> EnvironmentForOthers() {
  std::vector<char*> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (!std::string_view(*entry).starts_with("LOUPE_")) environment.push_back(*entry);
  }
  environment.push_back(nullptr);
  return environment;
}

MemoryFile::MemoryFile(const char* name, std::string_view text) : fd_(::memfd_create(name, MFD_CLOEXEC)) {
  good_ = fd_ >= 0 && ::pwrite(fd_, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size());
}

MemoryFile::~MemoryFile() {
  if (fd_ >= 0) ::close(fd_);
}

std::string MemoryFile::Text(size_t most_bytes) const {
  std::string text;
  char buffer[4096];
  while (text.size() < most_bytes) {
    const ssize_t count =
        ::pread(fd_, buffer, std::min(sizeof buffer, most_bytes - text.size()), static_cast<off_t>(text.size()));
    if (count <= 0) break;
    text.append(buffer, static_cast<size_t>(count));
  }
  return text;
}

}  // namespace loupe
