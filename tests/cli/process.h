// Runs a program to its end and keeps what it said.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace loupe::cli {

struct ProcessResult {
  int exit_code = -1;  // 128 + signal when it was killed
  std::string out;
  std::string err;
};

// `program` is a path; `environment` is added to the test's own, from which every LOUPE_… variable is taken away. The
// working directory is `directory`, or the test's own when that is empty.
ProcessResult RunProcess(const std::string& program, const std::vector<std::string>& arguments,
                         const std::string& directory = "", const std::map<std::string, std::string>& environment = {},
                         const std::string& input = "");

// A fresh folder, removed when it goes.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  const std::string& path() const { return path_; }
  // Writes a file in it and returns its path.
  std::string Write(const std::string& name, const std::string& text) const;

 private:
  std::string path_;
};

}  // namespace loupe::cli
