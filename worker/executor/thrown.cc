#include "worker/executor/thrown.h"

#include <c10/util/Exception.h>

#include <exception>
#include <new>
#include <utility>

#include "fmt/format.h"
#include "worker/runtime/finite.h"
#include "worker/runtime/user_error.h"

namespace loupe::worker::executor {

AttemptOutcome Failed(FailureClass failure_class, std::string message) {
  AttemptOutcome outcome;
  outcome.kind = AttemptOutcome::Kind::kFailure;
  outcome.failure_class = failure_class;
  outcome.failure_message = std::move(message);
  return outcome;
}

AttemptOutcome GivenBack() {
  AttemptOutcome outcome;
  outcome.kind = AttemptOutcome::Kind::kStopped;
  return outcome;
}

AttemptOutcome OutcomeOfThrown() {
  try {
    throw;
  } catch (const runtime::Stopped&) {
    return GivenBack();
  } catch (const runtime::UserError& error) {
    return Failed(FailureClass::kUserError, runtime::FirstLine(error.what()));
  } catch (const runtime::NotFinite& error) {
    return Failed(FailureClass::kUserError, runtime::FirstLine(error.what()));
  } catch (const c10::OutOfMemoryError& error) {
    return Failed(FailureClass::kRetryable,
                  fmt::format("out of memory on the GPU ({}); a smaller budget.batch or sample.chunk needs less",
                              runtime::FirstLine(error.what_without_backtrace())));
  } catch (const c10::Error& error) {
    return Failed(FailureClass::kRetryable, runtime::FirstLine(error.what_without_backtrace()));
  } catch (const std::bad_alloc&) {
    return Failed(FailureClass::kRetryable, "out of memory; a smaller budget.batch or sample.chunk needs less");
  } catch (const std::exception& error) {
    return Failed(FailureClass::kRetryable, runtime::FirstLine(error.what()));
  }
}

bool OutOfMemory() {
  try {
    throw;
  } catch (const c10::OutOfMemoryError&) {
    return true;
  } catch (const std::bad_alloc&) {
    return true;
  } catch (const c10::Error& error) {
    // LibTorch's allocator of the CPU has no class of its own for it.
    return std::string(error.what_without_backtrace()).find("DefaultCPUAllocator") != std::string::npos;
  } catch (...) {
    return false;
  }
}

}  // namespace loupe::worker::executor
