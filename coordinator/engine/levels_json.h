// A cell's levels as the store keeps them: {"scale": "1"}, factor's last part -> level.
#pragma once

#include <map>
#include <string>

namespace loupe::coordinator::engine {

// What is no JSON object gives no levels; values that are no texts are left out.
std::map<std::string, std::string> ParseLevels(const std::string& json);
// The inverse.
std::string LevelsJson(const std::map<std::string, std::string>& levels);

}  // namespace loupe::coordinator::engine
