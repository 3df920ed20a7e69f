// `loupe-coordinator token`: adds, lists and revokes access tokens, and writes credentials files.
#pragma once

#include <string>

#include "CLI/App.hpp"

namespace loupe::coordinator {

// Sets `exit_code` when one of its commands ran; `data_folder` is read then.
void AddTokenCommand(CLI::App& app, const std::string& data_folder, int& exit_code);

}  // namespace loupe::coordinator
