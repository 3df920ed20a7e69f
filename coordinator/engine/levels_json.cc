#include "coordinator/engine/levels_json.h"

#include <nlohmann/json.hpp>

namespace loupe::coordinator::engine {

std::map<std::string, std::string> ParseLevels(const std::string& json) {
  std::map<std::string, std::string> levels;
  const nlohmann::json parsed = nlohmann::json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) return levels;
  for (const auto& [key, value] : parsed.items()) {
    if (value.is_string()) levels.emplace(key, value.get<std::string>());
  }
  return levels;
}

std::string LevelsJson(const std::map<std::string, std::string>& levels) {
  return nlohmann::json(levels).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace loupe::coordinator::engine
