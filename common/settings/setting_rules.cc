#include "common/settings/setting_rules.h"

#include <iterator>

namespace loupe::settings {

const std::vector<SettingRule>& SettingRules() {
  static const std::vector<SettingRule> rules = [] {
    std::vector<SettingRule> all;
    for (const auto area : {&GeneralRules, &TaskRules, &MethodRules, &TransformerMethodRules, &BudgetRules, &TrainRules,
                            &SampleRules, &ScoreRules}) {
      std::vector<SettingRule> rows = area();
      // Each trial of a pack has a method of its own.
      if (area == &MethodRules || area == &TransformerMethodRules) {
        for (SettingRule& rule : rows) rule.may_differ_in_pack = true;
      }
      all.insert(all.end(), std::make_move_iterator(rows.begin()), std::make_move_iterator(rows.end()));
    }
    return all;
  }();
  return rules;
}

}  // namespace loupe::settings
