// A program of this machine that takes a message on its standard input, as sendmail does.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace loupe::coordinator::notify {

// "/usr/sbin/sendmail -t -i" as words: blanks part them, nothing else means anything. INVALID_ARGUMENT unless the first
// is the absolute path of a program that this user may run: PATH has no part in what a service starts.
absl::StatusOr<std::vector<std::string>> CommandWords(std::string_view text);

// Runs it with `input` to read, in a process group, session and environment without this project's variables, and
// waits. UNAVAILABLE, with the beginning of what it wrote to standard error, when it ends with another exit code than
// 0; DEADLINE_EXCEEDED when it has not ended within `timeout` (it is killed, with all that it started).
absl::Status RunLocalCommand(const std::vector<std::string>& words, std::string_view input, absl::Duration timeout);

}  // namespace loupe::coordinator::notify
