// An error that another try would meet again, and that the user can mend.
#pragma once

#include <stdexcept>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace loupe::worker::runtime {

// Thrown where tensors are at work; becomes FailureClass::kUserError in worker/executor. what() is a sentence.
class UserError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Thrown between steps when the attempt is told to stop.
class Stopped : public std::runtime_error {
 public:
  Stopped() : std::runtime_error("stopped") {}
};

// The value, or its error thrown: as UserError when the data or settings are to blame (INVALID_ARGUMENT, NOT_FOUND,
// PERMISSION_DENIED, FAILED_PRECONDITION, OUT_OF_RANGE), else as std::runtime_error.
void ThrowIfError(const absl::Status& status);

// Of LibTorch's messages the first line is the sentence, the rest is where in LibTorch it was raised.
std::string FirstLine(const std::string& message);

template <typename T>
T ValueOrThrow(absl::StatusOr<T> value) {
  ThrowIfError(value.status());
  return *std::move(value);
}

}  // namespace loupe::worker::runtime
