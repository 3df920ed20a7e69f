// Which combinations of levels are cells.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/plan/sweep_spec.h"

namespace loupe::coordinator::plan {

// In place of a level's index: the combination does not have the factor, which belongs to another method.
inline constexpr uint32_t kNoLevel = UINT32_MAX;

// The value of a setting in a combination (one level index per factor): a factor's, else the fixed one, else the
// default; empty where it has none.
std::string_view ValueIn(const SweepSpec& spec, const std::vector<SweepFactor>& factors,
                         const std::vector<uint32_t>& levels, const std::string& key);

// A set of cell patterns, indexed by which factors they name, so that a lookup costs one hash per distinct set of
// factors and not one comparison per pattern.
class PatternSet {
 public:
  // `patterns` are canonical: they name factors by FactorIds. A pattern with a level its factor does not have matches
  // nothing. INVALID_ARGUMENT when the patterns name more than kMaxShapes different sets of factors.
  static absl::StatusOr<PatternSet> Create(const std::vector<SweepFactor>& factors,
                                           const std::vector<CellPattern>& patterns);

  // `levels`: one level index per factor, or kNoLevel, which no pattern matches.
  bool Matches(const std::vector<uint32_t>& levels) const;

  static constexpr size_t kMaxShapes = 64;

 private:
  struct Shape {
    std::vector<size_t> factors;
    // Mixed-radix numbers over `factors` alone.
    std::unordered_set<uint64_t> codes;
  };
  std::vector<uint64_t> level_counts_;
  std::vector<Shape> shapes_;
};

// Whether the method's settings in a combination are legal together (common/settings/methods.h) and, where the spec
// lists position pairs, one of those. One for each design of a union.
class LegalityFilter {
 public:
  // `own`: the factors of this design, of which there are at most kMaxCandidateCells combinations. All arguments must
  // outlive the filter.
  LegalityFilter(const SweepSpec& spec, const std::vector<SweepFactor>& factors, const std::vector<size_t>& own,
                 const std::vector<PositionPairSpec>& positions);

  bool Allows(const std::vector<uint32_t>& levels);

  // Of the first combination that was not allowed: why, and what a combination is called ("pair").
  const std::string& reason() const { return reason_; }
  const std::string& noun() const { return noun_; }
  // Whether the answer depends on the levels at all.
  bool depends_on_levels() const { return !factors_.empty(); }

 private:
  std::string WhyNot(const std::vector<uint32_t>& levels);

  const SweepSpec& spec_;
  const std::vector<SweepFactor>& all_;
  const std::vector<PositionPairSpec>& positions_;
  // The factors that it depends on, and what is known by their mixed-radix number.
  std::vector<size_t> factors_;
  enum class Answer : char { kUnknown, kAllowed, kRefused };
  std::vector<Answer> answers_;
  std::string reason_, noun_ = "combination";
};

}  // namespace loupe::coordinator::plan
