// Pictures as data: URIs, each loaded once, until a budget of bytes is spent.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace loupe::analysis::report {

// Standard base 64 with padding (RFC 4648 §4).
std::string EncodeBase64(std::string_view bytes);

class PictureSource {
 public:
  using Loader = std::function<absl::StatusOr<std::string>(int64_t trial_index)>;
  PictureSource(Loader loader, int64_t budget_bytes);

  // <img …> with the picture inside, or a remark in its place: there is none, it is neither PNG nor JPEG, the budget is
  // spent. A picture shown twice counts twice: a page has no way to refer to an image it already holds.
  std::string ImageTag(int64_t trial_index, std::string_view description);

  int64_t left_out() const { return left_out_; }  // pictures that the budget did not allow

 private:
  Loader loader_;
  int64_t budget_bytes_;
  int64_t left_out_ = 0;
  std::map<int64_t, std::string> loaded_;  // bytes; empty: there is none
};

}  // namespace loupe::analysis::report
