// What a trial may cost.
#include "common/settings/setting_rules.h"

namespace loupe::settings {

std::vector<SettingRule> BudgetRules() {
  using enum SettingType;
  return {
      {.key = "budget.steps",
       .type = kInteger,
       .required = true,
       .minimum = 1,
       .maximum = 1e9,
       .description = "Optimiser steps."},
      {.key = "budget.batch",
       .type = kInteger,
       .default_value = "4",
       .minimum = 1,
       .maximum = 4096,
       .description = "Subject images per step (as many class images are added under prior preservation)."},
      {.key = "budget.samples",
       .type = kInteger,
       .default_value = "16",
       .minimum = 2,
       .maximum = 1000000,
       .description = "Images generated to score a trial."},
  };
}

}  // namespace loupe::settings
