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

// A program on a terminal of its own, at first of 80 columns and 24 lines; TERM is xterm-256color unless `environment`
// says otherwise. What it writes is read only here, so a program that writes a lot waits.
class TerminalProcess {
 public:
  TerminalProcess(const std::string& program, const std::vector<std::string>& arguments,
                  const std::map<std::string, std::string>& environment = {});
  // Kills it if it still runs.
  ~TerminalProcess();
  TerminalProcess(const TerminalProcess&) = delete;
  TerminalProcess& operator=(const TerminalProcess&) = delete;

  // Reads until `text` has come after what the last Await has found. False when the program has closed its terminal
  // before, or a minute has passed.
  bool Await(const std::string& text);
  // As if it was typed.
  void Type(const std::string& keys);
  void Resize(int columns, int lines);
  // Waits until it has been stopped (Ctrl-Z), and lets it go on.
  void Continue();
  // Whether keys are shown as they are typed.
  bool Echoes() const;
  // Reads to the end; the exit code, 128 + signal when it was killed.
  int Wait();
  const std::string& output() const { return output_; }

 private:
  bool ReadMore();

  int terminal_ = -1;
  int process_ = -1;
  std::string output_;
  size_t found_ = 0;
};

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
