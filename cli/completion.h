// What may come next on a command line, from the very table of commands and options that parses it.
#pragma once

#include <string>
#include <vector>

#include "CLI/App.hpp"

namespace loupe::cli {

// Names that only a coordinator knows: bare ids, as people type them. Each is asked for when it is needed, once.
class NameSource {
 public:
  virtual ~NameSource() = default;
  virtual std::vector<std::string> Sweeps() = 0;
  // "0", "1", … of a sweep.
  virtual std::vector<std::string> Trials(const std::string& sweep) = 0;
  virtual std::vector<std::string> Artifacts(const std::string& sweep, const std::string& trial) = 0;
  virtual std::vector<std::string> Workers() = 0;
};

struct Completions {
  struct Candidate {
    std::string text;
    // One line; may be empty.
    std::string description;
  };
  std::vector<Candidate> candidates;
  // Besides, paths: the shell knows them best.
  enum class Paths { kNone, kFiles, kFolders };
  Paths paths = Paths::kNone;
};

// `words`: those after the program's name, the last being the one that is typed; candidates begin with it, and for
// "--format=js" have all of "--format=json". A word "=" (bash splits there) stands between an option and its value.
Completions Complete(const CLI::App& app, std::vector<std::string> words, NameSource& names);

// For the shells' scripts: "none", "files" or "folders", then a line for each candidate, its description after a tab.
std::string CompletionLines(const Completions& completions);

// The script for "bash", "zsh" or "fish" that asks `loupe __complete WORDS…` at each tab.
std::string CompletionScript(const std::string& shell);

}  // namespace loupe::cli
