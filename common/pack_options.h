// The options of a worker that say how it trains several trials together, and of the commands that start workers.
#pragma once

#include <string>

#include "CLI/App.hpp"

namespace loupe {

struct PackOptions {
  // A number, or auto: as many as memory holds.
  std::string slots = "1";
  // own, shared or auto.
  std::string passes = "auto";
};

// --slots and --passes. `options` must live until `command` has run.
void AddPackOptions(CLI::App& command, PackOptions& options);

}  // namespace loupe
