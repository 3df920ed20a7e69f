// What an exception means for an attempt.
#pragma once

#include <string>

#include "worker/executor/attempt.h"

namespace loupe::worker::executor {

AttemptOutcome Failed(FailureClass failure_class, std::string message);
// To be taken up again from its checkpoint.
AttemptOutcome GivenBack();

// Of the exception that is being handled: stopped, what the user can mend, or what another try may not meet again.
AttemptOutcome OutcomeOfThrown();
// Whether it says that there is no memory, the device's or the machine's.
bool OutOfMemory();

}  // namespace loupe::worker::executor
