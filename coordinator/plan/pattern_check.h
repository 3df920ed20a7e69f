// The cell patterns of a spec (exclusions, selections), made canonical. Inside CanonicaliseSpec.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "coordinator/plan/canonical_spec.h"

namespace loupe::coordinator::plan {

class PatternCheck {
 public:
  // `result` has its factors, and gets violations and notes. Both must outlive this.
  PatternCheck(const SweepSpec& given, CanonicalSpec& result);

  // The patterns by FactorIds and with canonical levels. `list`: their field; `effect`: what a pattern does that
  // matches nothing.
  std::vector<CellPattern> Check(const std::string& list, const std::vector<CellPattern>& given,
                                 std::string_view effect);

 private:
  void Refuse(std::string field, std::string description);
  void CheckLevel(const std::string& pattern_field, const std::string& key, const std::string& value,
                  std::string_view effect, CellPattern& pattern);
  // The factor that a pattern calls `key`; what is wrong with it is said in `problem`, unless it has been reported.
  std::optional<size_t> FactorOf(const std::string& key, std::string& problem) const;
  bool IsFreeNameGiven() const;
  // Whether a factor of this name was given and refused, which has been reported.
  bool WasGiven(const std::string& key) const;

  const SweepSpec& given_;
  CanonicalSpec& result_;
  const std::vector<std::string> names_, ids_;
  // Per factor.
  std::vector<std::unordered_set<std::string>> level_sets_;
};

}  // namespace loupe::coordinator::plan
