// Model formulas: an error in a sentence, or terms of the table's factors that, written out, read back as the same.
#include <algorithm>

#include "absl/status/status.h"
#include "analysis/stats/model_formula.h"
#include "tests/fuzz/fuzz_target.h"

namespace loupe::fuzz {
namespace {

const analysis::stats::DataTable& Table() {
  static const analysis::stats::DataTable table = [] {
    analysis::stats::DataTable made;
    made.response_name = "y";
    for (const char* name :
         {"input", "output", "scale", "a", "b", "c", "d", "e", "a:b", "C(x)", "lr (x10)", "-act", "b`c", "x~y"})
      made.factors.push_back({name, {"1", "2"}, {}});
    return made;
  }();
  return table;
}

}  // namespace

std::vector<std::string> Seeds() {
  return {"input*output + scale",
          "(a+b+c)^2",
          "a*b-a:b",
          "y ~ `input` + (a + b):c",
          "(a+b+c+d+e+input+output+scale)^9",
          "((((a))))",
          "a - a",
          "`a:b` + a:b",
          "`y` ~ `x~y`*`C(x)` - `-act`",
          "`b``c`:`lr (x10)`",
          "C(x)"};
}

std::vector<std::string> Dictionary() {
  return {"input", "output",           "scale", "a", "b",    "*",     ":",      "+",  "-",          "^2",   "^9",   "(",
          ")",     "((((((((((((((((", "`",     "~", "y ~ ", "`a:b`", "`C(x)`", "``", "`lr (x10)`", "-act", "`x~y`"};
}

int DefaultRuns() { return 20000; }

}  // namespace loupe::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace loupe;            // NOLINT: one function
  using namespace loupe::analysis;  // NOLINT
  const stats::DataTable& table = fuzz::Table();
  const auto terms = stats::ParseModelFormula({reinterpret_cast<const char*>(data), size}, table);
  if (!terms.ok()) {
    fuzz::Require(absl::IsInvalidArgument(terms.status()) && !terms.status().message().empty(),
                  "a refusal is a sentence");
    return 0;
  }
  for (const stats::ModelTerm& term : *terms) {
    fuzz::Require(!term.empty() && term.back() < table.factors.size(), "a term is made of factors");
    fuzz::Require(std::adjacent_find(term.begin(), term.end(), std::greater_equal<>()) == term.end(),
                  "its factors ascend");
    fuzz::Require(std::count(terms->begin(), terms->end(), term) == 1, "no term comes twice");
  }
  const auto again = stats::ParseModelFormula(stats::FormulaText(*terms, table), table);
  fuzz::Require(again.ok() && *again == *terms, "terms written out read back");
  return 0;
}
