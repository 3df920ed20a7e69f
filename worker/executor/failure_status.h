// Exceptions of the tensor code as a Status, for commands that run outside any trial.
#pragma once

#include <torch/types.h>

#include <exception>

#include "absl/status/status.h"
#include "worker/runtime/finite.h"
#include "worker/runtime/user_error.h"

namespace loupe::worker::executor {

// OK, or what `body` threw: INVALID_ARGUMENT for what the user can mend (UserError, NotFinite, and LibTorch's own,
// which are of shapes and arguments), else INTERNAL.
template <typename Body>
absl::Status StatusOfThrown(const Body& body) {
  try {
    body();
    return absl::OkStatus();
  } catch (const runtime::UserError& error) {
    return absl::InvalidArgumentError(error.what());
  } catch (const runtime::NotFinite& error) {
    return absl::InvalidArgumentError(error.what());
  } catch (const c10::Error& error) {
    return absl::InvalidArgumentError(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return absl::InternalError(error.what());
  }
}

}  // namespace loupe::worker::executor
