#include "cli/name_hint.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "common/settings/settings.h"
#include "fmt/format.h"

namespace loupe::cli {
namespace {

std::vector<std::string> FlagsOf(const CLI::App& command) {
  std::vector<std::string> flags;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) flags.push_back("--" + name);
  }
  return flags;
}

std::string Hint(std::string_view word, const std::vector<std::string>& known) {
  if (std::find(known.begin(), known.end(), word) != known.end()) return "";
  const std::string nearest = settings::NearestName(word, known);
  return nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest);
}

}  // namespace

std::string CommandHint(const CLI::App& app, int argc, const char* const* argv) {
  const CLI::App* command = &app;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word(argv[i]);
    if (word.starts_with("--")) {
      if (std::string hint = Hint(word.substr(0, word.find('=')), FlagsOf(*command)); !hint.empty()) return hint;
    } else if (command == &app && !word.starts_with("-")) {
      std::vector<std::string> names;
      for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
        names.push_back(sub->get_name());
        if (sub->get_name() == word) command = sub;
      }
      if (command == &app) return Hint(word, names);
    }
  }
  return "";
}

}  // namespace loupe::cli
