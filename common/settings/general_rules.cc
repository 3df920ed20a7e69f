// What stands at the top of a sweep file.
#include "common/settings/setting_rules.h"

namespace loupe::settings {

std::vector<SettingRule> GeneralRules() {
  using enum SettingType;
  return {
      {.key = "base",
       .type = kPath,
       .required = true,
       .description = "Folder of the frozen base model, in the diffusers layout of Stable Diffusion v1."},
      {.key = "scorer",
       .type = kPath,
       .required = true,
       .description = "Folder of the CLIP model that scores, in the transformers layout, with both towers."},
  };
}

}  // namespace loupe::settings
