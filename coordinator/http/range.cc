#include "coordinator/http/range.h"

#include <algorithm>

#include "absl/strings/numbers.h"

namespace loupe::coordinator::http {
namespace {

// "*" or a list with the tag in it, weak or strong.
bool Matches(std::string_view list, std::string_view etag) {
  if (list == "*") return true;
  while (!list.empty()) {
    std::string_view one = list.substr(0, list.find(','));
    list.remove_prefix(std::min(list.size(), one.size() + 1));
    while (one.starts_with(' ')) one.remove_prefix(1);
    while (one.ends_with(' ')) one.remove_suffix(1);
    if (one.starts_with("W/")) one.remove_prefix(2);
    if (one == etag) return true;
  }
  return false;
}

// At most 18 digits; false for anything else.
bool Number(std::string_view text, int64_t& number) {
  return !text.empty() && text.size() <= 18 && text.find_first_not_of("0123456789") == std::string_view::npos &&
         absl::SimpleAtoi(absl::string_view(text.data(), text.size()), &number);
}

}  // namespace

Part PartOf(const Request& request, int64_t size, std::string_view etag) {
  const Part all{.status = 200, .first = 0, .bytes = size};
  if (const std::string_view known = request.Header("if-none-match"); !known.empty() && Matches(known, etag))
    return {.status = 304, .first = 0, .bytes = 0};
  std::string_view range = request.Header("range");
  const std::string_view condition = request.Header("if-range");
  if (!range.starts_with("bytes=") || (!condition.empty() && condition != etag)) return all;
  range.remove_prefix(6);
  const size_t dash = range.find('-');
  if (dash == std::string_view::npos || range.find(',') != std::string_view::npos) return all;
  const std::string_view from = range.substr(0, dash);
  const std::string_view to = range.substr(dash + 1);
  int64_t first = 0;
  int64_t last = size - 1;
  if (from.empty()) {
    // The last so many.
    int64_t suffix = 0;
    if (!Number(to, suffix)) return all;
    if (suffix == 0 || size == 0) return {.status = 416, .first = 0, .bytes = 0};
    first = std::max<int64_t>(0, size - suffix);
  } else {
    if (!Number(from, first) || (!to.empty() && !Number(to, last)) || (!to.empty() && last < first)) return all;
    if (first >= size) return {.status = 416, .first = 0, .bytes = 0};
    last = std::min(last, size - 1);
  }
  return {.status = 206, .first = first, .bytes = last - first + 1};
}

}  // namespace loupe::coordinator::http
