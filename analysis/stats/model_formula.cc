#include "analysis/stats/model_formula.h"

#include <algorithm>

#include "analysis/stats/quoted_name.h"
#include "analysis/stats/trim.h"
#include "common/status_macros.h"
#include "common/text.h"
#include "fmt/format.h"

namespace loupe::analysis::stats {
namespace {

using Terms = std::vector<ModelTerm>;

ModelTerm Union(const ModelTerm& a, const ModelTerm& b) {
  ModelTerm both;
  std::set_union(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
  return both;
}

// Where the '~' behind a response stands; npos if there is none. Within back-quotes it belongs to a name.
size_t FindTilde(std::string_view formula) {
  const std::string_view left = SplitOutsideQuotes(formula, '~').front();
  return left.size() == formula.size() ? std::string_view::npos : left.size();
}

// Recursive descent; each method reads one level of precedence. Formulas come over the network too, so what they can
// cost is bounded: the depth of parentheses (the stack), the number of terms, and how often one is added (time).
class Parser {
 public:
  Parser(std::string_view text, const DataTable& data) : text_(text), data_(data) {}

  absl::StatusOr<Terms> Parse() {
    LOUPE_ASSIGN_OR_RETURN(Terms terms, Sum());
    if (has_too_many_) return TooMany();
    if (at_ < text_.size()) return Error(fmt::format("unexpected '{}'", Shown()));
    if (terms.empty()) return Error("no term is left");
    return terms;
  }

 private:
  static constexpr size_t kMostTerms = 256;
  static constexpr int kMostParentheses = 64, kMostAdditions = 1 << 15;

  void AddTerm(Terms& terms, ModelTerm term) {
    if (++additions_ > kMostAdditions) has_too_many_ = true;
    if (has_too_many_ || std::find(terms.begin(), terms.end(), term) != terms.end()) return;
    if (terms.size() == kMostTerms) {
      has_too_many_ = true;
    } else {
      terms.push_back(std::move(term));
    }
  }

  Terms Interact(const Terms& a, const Terms& b) {
    Terms result;
    for (const ModelTerm& x : a) {
      for (const ModelTerm& y : b) AddTerm(result, Union(x, y));
    }
    return result;
  }

  Terms Cross(const Terms& a, const Terms& b) {
    Terms result = a;
    for (const ModelTerm& term : b) AddTerm(result, term);
    for (ModelTerm& term : Interact(a, b)) AddTerm(result, std::move(term));
    return result;
  }

  absl::StatusOr<Terms> Sum() {
    LOUPE_ASSIGN_OR_RETURN(Terms terms, Product());
    while (Peek() == '+' || Peek() == '-') {
      const char sign = text_[at_++];
      LOUPE_ASSIGN_OR_RETURN(Terms more, Product());
      for (ModelTerm& term : more) {
        if (sign == '+') {
          AddTerm(terms, std::move(term));
        } else {
          std::erase(terms, term);
        }
      }
    }
    return terms;
  }

  absl::StatusOr<Terms> Product() {
    LOUPE_ASSIGN_OR_RETURN(Terms terms, Interaction());
    while (Peek() == '*') {
      ++at_;
      LOUPE_ASSIGN_OR_RETURN(const Terms more, Interaction());
      terms = Cross(terms, more);
    }
    return terms;
  }

  absl::StatusOr<Terms> Interaction() {
    LOUPE_ASSIGN_OR_RETURN(Terms terms, Power());
    while (Peek() == ':') {
      ++at_;
      LOUPE_ASSIGN_OR_RETURN(const Terms more, Power());
      terms = Interact(terms, more);
    }
    return terms;
  }

  absl::StatusOr<Terms> Power() {
    LOUPE_ASSIGN_OR_RETURN(const Terms base, Atom());
    if (Peek() != '^') return base;
    ++at_;
    if (const char digit = Peek(); digit < '1' || digit > '9') return Error("expected an order from 1 to 9 after '^'");
    const int order = text_[at_++] - '0';
    Terms terms = base;
    for (int i = 1; i < order; ++i) terms = Cross(terms, base);
    return terms;
  }

  absl::StatusOr<Terms> Atom() {
    if (has_too_many_) return TooMany();
    const char first = Peek();
    if (first == '(') {
      ++at_;
      if (++open_ > kMostParentheses)
        return Error(fmt::format("more than {} parentheses in each other", kMostParentheses));
      LOUPE_ASSIGN_OR_RETURN(Terms terms, Sum());
      if (Peek() != ')') return Error("a '(' is never closed");
      ++at_;
      --open_;
      return terms;
    }
    std::string name;
    if (first == '`') {
      auto quoted = ReadQuotedName(text_, at_);
      if (!quoted.ok()) return Error(std::string(quoted.status().message()));
      name = *std::move(quoted);
    } else {
      const size_t begin = at_;
      while (at_ < text_.size() && IsPlainNameCharacter(text_[at_])) ++at_;
      name = std::string(text_.substr(begin, at_ - begin));
      if (name.empty()) {
        return Error(first == '\0' ? std::string("a factor is missing at the end")
                                   : fmt::format("expected a factor before '{}'", Shown()));
      }
    }
    LOUPE_ASSIGN_OR_RETURN(const size_t index, FindFactor(name));
    return Terms{{index}};
  }

  absl::StatusOr<size_t> FindFactor(std::string_view name) {
    auto index = data_.FactorIndex(name);
    if (!index.ok()) {
      return absl::InvalidArgumentError(fmt::format(
          "{}{}", std::string(Annotate(index.status(), fmt::format("model '{}'", text_)).message()), QuotingHint()));
    }
    return index;
  }

  char Peek() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t')) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }

  absl::Status TooMany() const { return Error(fmt::format("too many terms, expected at most {}", kMostTerms)); }
  absl::Status Error(std::string_view what) const {
    return absl::InvalidArgumentError(fmt::format("model '{}', character {}: {}; write terms such as 'a*b + c'{}",
                                                  text_, at_ + 1, what, QuotingHint()));
  }

  // The character at at_, whole.
  std::string Shown() const {
    return Printable(text_.substr(at_, std::max<size_t>(1, CharacterLength(text_.substr(at_)))));
  }

  // What to do about a factor whose name stands in the formula without the back-quotes that it needs.
  std::string QuotingHint() const {
    for (const Factor& factor : data_.factors) {
      const std::string quoted = QuoteName(factor.name);
      if (quoted != factor.name && text_.find(factor.name) != std::string_view::npos &&
          text_.find(quoted) == std::string_view::npos) {
        return fmt::format("; the factor '{}' goes in back-quotes: {}", factor.name, quoted);
      }
    }
    return "";
  }

  std::string_view text_;
  const DataTable& data_;
  size_t at_ = 0;
  int open_ = 0;  // parentheses
  int additions_ = 0;
  bool has_too_many_ = false;
};

}  // namespace

absl::StatusOr<std::vector<ModelTerm>> ParseModelFormula(std::string_view formula, const DataTable& data) {
  if (const size_t tilde = FindTilde(formula); tilde != std::string_view::npos) {
    LOUPE_ASSIGN_OR_RETURN(const std::string left, UnquoteName(formula.substr(0, tilde)));
    if (left != data.response_name && Trim(formula.substr(0, tilde)) != data.response_name) {
      return absl::InvalidArgumentError(
          fmt::format("model '{}': the response is '{}', not '{}'; give only what stands right "
                      "of the '~'",
                      formula, data.response_name, left));
    }
    formula.remove_prefix(tilde + 1);
  }
  LOUPE_ASSIGN_OR_RETURN(Terms terms, Parser(formula, data).Parse());
  std::stable_sort(terms.begin(), terms.end(), [](const auto& a, const auto& b) { return a.size() < b.size(); });
  return terms;
}

std::string TermName(const ModelTerm& term, const DataTable& data) {
  std::string name;
  for (const size_t factor : term) {
    // "rank" of the term method:rank, since rank says that it is one method's.
    const bool implied = std::any_of(term.begin(), term.end(), [&](size_t other) {
      return data.factors[other].nested_in == data.factors[factor].name;
    });
    if (implied) continue;
    if (!name.empty()) name += ':';
    name += QuoteName(data.factors[factor].name);
  }
  return name;
}

std::string FormulaText(const std::vector<ModelTerm>& terms, const DataTable& data) {
  std::string text;
  for (const ModelTerm& term : terms) {
    if (!text.empty()) text += " + ";
    text += TermName(term, data);
  }
  return text;
}

bool IsContained(const ModelTerm& inner, const ModelTerm& outer) {
  return std::includes(outer.begin(), outer.end(), inner.begin(), inner.end());
}

}  // namespace loupe::analysis::stats
