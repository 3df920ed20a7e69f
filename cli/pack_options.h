// How the workers that a command starts train several trials together: options of theirs, under the same names.
#pragma once

#include <string>

#include "CLI/App.hpp"

namespace loupe::cli {

struct PackOptions {
  // A number, or auto: as many as memory holds.
  std::string slots = "1";
  // own, shared or auto.
  std::string passes = "auto";
};

// --slots and --passes. `options` must live until `command` has run.
void AddPackOptions(CLI::App& command, PackOptions& options);

}  // namespace loupe::cli
