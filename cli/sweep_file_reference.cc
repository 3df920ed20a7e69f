#include "cli/sweep_file_reference.h"

#include "common/settings/settings.h"
#include "coordinator/plan/sweep_file.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::cli {
namespace {

std::string DefaultText(const settings::SettingRule& rule) {
  if (rule.required) return "required";
  if (!rule.alternative_key.empty()) return fmt::format("this or `{}`", rule.alternative_key);
  return rule.default_value.empty() ? "not set" : fmt::format("`{}`", rule.default_value);
}

std::string Description(const settings::SettingRule& rule) {
  if (rule.condition_key.empty()) return rule.description;
  return fmt::format("{} (Only where `{}` is {}.)", rule.description, rule.condition_key,
                     fmt::join(rule.condition_values, " or "));
}

}  // namespace

std::string SweepFileReference() {
  std::string text = "### The sweep itself\n\n| key | value | meaning |\n|---|---|---|\n";
  for (const coordinator::plan::StructureKey& key : coordinator::plan::SweepFileStructure()) {
    text += fmt::format("| `{}` | {} | {} |\n", key.key, key.expects, key.description);
  }
  std::string section = "?";
  for (const settings::SettingRule& rule : settings::SettingRules()) {
    const size_t dot = rule.key.find('.');
    const std::string own = dot == std::string::npos ? "" : rule.key.substr(0, dot);
    if (own != section) {
      section = own;
      text += fmt::format("\n### {}\n\n| key | value | default | meaning |\n|---|---|---|---|\n",
                          section.empty() ? "At the top" : fmt::format("`{}:`", section));
    }
    text += fmt::format("| `{}` | {} | {} | {} |\n", rule.key, settings::ExpectedValue(rule), DefaultText(rule),
                        Description(rule));
  }
  return text;
}

}  // namespace loupe::cli
