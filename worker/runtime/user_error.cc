#include "worker/runtime/user_error.h"

namespace loupe::worker::runtime {

void ThrowIfError(const absl::Status& status) {
  if (status.ok()) return;
  const std::string message(status.message());
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kOutOfRange:
      throw UserError(message);
    default:
      throw std::runtime_error(message);
  }
}

std::string FirstLine(const std::string& message) { return message.substr(0, message.find('\n')); }

}  // namespace loupe::worker::runtime
