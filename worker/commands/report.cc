#include <cstdio>

#include "common/text.h"
#include "fmt/format.h"
#include "worker/commands/commands.h"

namespace loupe::worker::commands {

int Report(std::string_view command, const absl::Status& status) {
  if (status.ok()) return 0;
  fmt::print(stderr, "loupe-worker {}: {}\n", command,
             Printable({status.message().data(), status.message().size()}, LineBreaks::kKept));
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kAlreadyExists:
      return 2;
    default:
      return 1;
  }
}

}  // namespace loupe::worker::commands
