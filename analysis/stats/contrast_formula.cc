#include "analysis/stats/contrast_formula.h"

#include <cmath>
#include <cstdlib>

#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis::stats {
namespace {

constexpr size_t kLongestContrast = 1000;
constexpr int kDeepestContrast = 50;

// A number or a sum of means, never both.
struct Value {
  double number = 0;
  WeightedMeans means;
  bool is_number() const { return means.empty() && !has_means; }
  bool has_means = false;  // stays when weights cancel
};

class ContrastParser {
 public:
  explicit ContrastParser(std::string_view text) : text_(text) {}

  absl::StatusOr<WeightedMeans> Parse() {
    if (text_.size() > kLongestContrast) return Error(fmt::format("longer than {} characters", kLongestContrast));
    LOUPE_ASSIGN_OR_RETURN(Value value, Sum());
    if (Peek() != '\0' || at_ < text_.size()) return Error(fmt::format("unexpected '{}'", text_[at_]));
    if (value.is_number()) return Error("there is no mean in it");
    std::erase_if(value.means, [](const auto& entry) { return entry.second == 0; });
    if (value.means.empty()) return Error("all weights cancel");
    return std::move(value.means);
  }

 private:
  absl::StatusOr<Value> Sum() {
    LOUPE_ASSIGN_OR_RETURN(Value sum, Product());
    while (Peek() == '+' || Peek() == '-') {
      const double sign = text_[at_++] == '+' ? 1 : -1;
      LOUPE_ASSIGN_OR_RETURN(const Value next, Product());
      if (sum.is_number() != next.is_number()) return Error("a number cannot be added to a mean");
      sum.number += sign * next.number;
      for (const auto& [mean, weight] : next.means) sum.means[mean] += sign * weight;
    }
    return sum;
  }

  absl::StatusOr<Value> Product() {
    LOUPE_ASSIGN_OR_RETURN(Value product, Single());
    while (Peek() == '*' || Peek() == '/') {
      const bool divides = text_[at_++] == '/';
      LOUPE_ASSIGN_OR_RETURN(Value next, Single());
      if (divides) {
        if (!next.is_number()) return Error("nothing can be divided by a mean");
        if (next.number == 0) return Error("division by 0");
        next.number = 1 / next.number;
      }
      if (!product.is_number() && !next.is_number()) return Error("means cannot be multiplied with each other");
      if (product.is_number()) std::swap(product, next);
      for (auto& [mean, weight] : product.means) weight *= next.number;
      product.number *= next.number;
    }
    return product;
  }

  absl::StatusOr<Value> Single() {
    if (++depth_ > kDeepestContrast) return Error("too many signs and parentheses in each other");
    absl::StatusOr<Value> value = Unnested();
    --depth_;
    return value;
  }

  absl::StatusOr<Value> Unnested() {
    const char first = Peek();
    if (first == '-') {
      ++at_;
      LOUPE_ASSIGN_OR_RETURN(Value value, Single());
      value.number = -value.number;
      for (auto& [mean, weight] : value.means) weight = -weight;
      return value;
    }
    if (first == '(') {
      ++at_;
      LOUPE_ASSIGN_OR_RETURN(Value value, Sum());
      if (Peek() != ')') return Error("a '(' is never closed");
      ++at_;
      return value;
    }
    if (first == '[') return Mean();
    if ((first >= '0' && first <= '9') || first == '.') return Number();
    if (first == '\0') return Error("a mean is missing at the end");
    return Error(fmt::format("expected a mean such as [factor=level] before '{}'", first));
  }

  absl::StatusOr<Value> Number() {
    const std::string rest(text_.substr(at_, text_.find_first_not_of("0123456789.eE", at_) - at_));
    char* end = nullptr;
    Value value;
    value.number = std::strtod(rest.c_str(), &end);
    if (end == rest.c_str() || !std::isfinite(value.number)) return Error(fmt::format("'{}' is no number", rest));
    at_ += static_cast<size_t>(end - rest.c_str());
    return value;
  }

  absl::StatusOr<Value> Mean() {
    std::map<std::string, std::string> levels;
    do {
      ++at_;  // '[' or ','
      LOUPE_ASSIGN_OR_RETURN(std::string name, Word("=", "a factor"));
      if (Peek() != '=') return Error(fmt::format("expected '=' and a level after '{}'", name));
      ++at_;
      LOUPE_ASSIGN_OR_RETURN(std::string level, Word(",]", "a level"));
      if (!levels.emplace(name, std::move(level)).second)
        return Error(fmt::format("two levels of '{}' in one mean", name));
    } while (Peek() == ',');
    if (Peek() != ']') return Error("a '[' is never closed");
    ++at_;
    Value value;
    value.has_means = true;
    value.means.emplace(std::move(levels), 1.0);
    return value;
  }

  // Up to one of `ends`, or in backquotes.
  absl::StatusOr<std::string> Word(std::string_view ends, std::string_view what) {
    std::string_view word;
    if (Peek() == '`') {
      const size_t close = text_.find('`', at_ + 1);
      if (close == std::string_view::npos) return Error("a '`' is never closed");
      word = text_.substr(at_ + 1, close - at_ - 1);
      at_ = close + 1;
    } else {
      const size_t begin = at_;
      while (at_ < text_.size() && ends.find(text_[at_]) == std::string_view::npos && text_[at_] != ']') ++at_;
      word = text_.substr(begin, at_ - begin);
      while (word.ends_with(' ')) word.remove_suffix(1);
    }
    if (word.empty()) return Error(fmt::format("{} is missing", what));
    return std::string(word);
  }

  char Peek() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t')) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }

  absl::Status Error(std::string_view what) const {
    return absl::InvalidArgumentError(
        fmt::format("contrast '{}', character {}: {}; write sums of means such as '[a=1] - ([a=2] + [a=3])/2'",
                    text_.substr(0, kLongestContrast), at_ + 1, what));
  }

  std::string_view text_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

absl::StatusOr<WeightedMeans> ParseContrast(std::string_view formula) { return ContrastParser(formula).Parse(); }

}  // namespace loupe::analysis::stats
