#include "cli/failure.h"

#include <cstdio>
#include <string>
#include <vector>

#include "cli/exit_code.h"
#include "common/error_details.h"
#include "common/text.h"
#include "fmt/format.h"

namespace loupe::cli {

int ExitCodeFor(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kOk;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return kBadInput;
    case absl::StatusCode::kUnavailable:
      // With a reason it is an answer: of a coordinator, or of this machine's disk.
      return ReasonOf(status).empty() ? kUnreachable : kFailed;
    case absl::StatusCode::kCancelled:
      return kInterrupted;
    default:
      return kFailed;
  }
}

int Fail(const absl::Status& status) {
  if (status.ok()) return kOk;
  const std::vector<FieldViolation> violations = FieldViolationsOf(status);
  if (violations.empty()) {
    fmt::print(stderr, "loupe: {}\n", Printable(std::string(status.message()), LineBreaks::kKept));
  } else {
    for (const FieldViolation& violation : violations) {
      fmt::print(stderr, "loupe: {}: {}\n", Printable(violation.field),
                 Printable(violation.description, LineBreaks::kKept));
    }
    if (violations.size() > 1) fmt::print(stderr, "loupe: {} problems; nothing was done\n", violations.size());
  }
  return ExitCodeFor(status);
}

}  // namespace loupe::cli
