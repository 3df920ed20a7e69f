// A program of another time: a default of the table of settings is another one while this lives.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "common/settings/settings.h"

namespace loupe::testing {

// Not thread-safe: begin and end it while nothing reads settings.
class ChangedDefault {
 public:
  // Precondition: there is such a key.
  ChangedDefault(std::string_view key, std::string value)
      : rule_(const_cast<settings::SettingRule*>(settings::FindSettingRule(key))),
        former_(std::exchange(rule_->default_value, std::move(value))) {}
  ~ChangedDefault() { rule_->default_value = former_; }
  ChangedDefault(const ChangedDefault&) = delete;
  ChangedDefault& operator=(const ChangedDefault&) = delete;

 private:
  // The table's rows are objects of a vector, not constants themselves.
  settings::SettingRule* rule_;
  std::string former_;
};

}  // namespace loupe::testing
