#include "common/settings/setting_rules.h"

#include <iterator>

namespace loupe {

const std::vector<SettingRule>& SettingRules() {
  static const std::vector<SettingRule> rules = [] {
    std::vector<SettingRule> all;
    for (const auto area :
         {&GeneralRules, &TaskRules, &MethodRules, &BudgetRules, &TrainRules, &SampleRules, &ScoreRules}) {
      std::vector<SettingRule> rows = area();
      all.insert(all.end(), std::make_move_iterator(rows.begin()), std::make_move_iterator(rows.end()));
    }
    return all;
  }();
  return rules;
}

}  // namespace loupe
