// "Did you mean …" for commands and flags.
#pragma once

#include <string>

#include "CLI/App.hpp"

namespace loupe::cli {

// "; did you mean 'status'?" for the first word of the command line that is no known command or flag and resembles one;
// else empty.
std::string CommandHint(const CLI::App& app, int argc, const char* const* argv);

}  // namespace loupe::cli
