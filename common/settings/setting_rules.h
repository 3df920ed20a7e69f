// The table of settings by area: one function per source file, joined by SettingRules() in the documented order.
// Nothing but common/settings/ includes this.
//
// A new setting, choice or default is a new version of the table (kSettingsVersion): older programs' sweeps and workers
// must go on meaning what they meant.
//   new setting    `since` = the new version, and `neutral` = the value that means what programs did before it
//   new choice     an entry in `choices_since`
//   new default    the old one moves to `former_defaults`
// Trials that differ in it alone can share a pack where `may_differ_in_pack` says so: every setting of the method and
// of its optimiser, and none that says what a trial sees, how much of it, when it is looked at or how it is scored. A
// setting is never removed, renamed or given another meaning; tests/common holds each version's defaults to numbers
// written then.
#pragma once

#include <vector>

#include "common/settings/settings.h"

namespace loupe::settings {

std::vector<SettingRule> GeneralRules();
std::vector<SettingRule> TaskRules();
std::vector<SettingRule> MethodRules();
std::vector<SettingRule> TransformerMethodRules();
std::vector<SettingRule> BudgetRules();
std::vector<SettingRule> TrainRules();
std::vector<SettingRule> SampleRules();
std::vector<SettingRule> ScoreRules();

}  // namespace loupe::settings
