// Captions and their files as text: UTF-8, or refused. Guessing would change what a model is conditioned on without a
// word.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace loupe::worker::data {

// `bytes` without the byte order mark that editors put before UTF-8. INVALID_ARGUMENT, with `name`, the place and what
// to do, when it is UTF-16 or UTF-32, has bytes that are not UTF-8 (Latin-1, as a rule), or a NUL.
absl::StatusOr<std::string> Utf8Text(std::string_view bytes, const std::string& name);

// The same without white space around it: one caption. May be empty.
absl::StatusOr<std::string> CaptionText(std::string_view bytes, const std::string& name);

}  // namespace loupe::worker::data
