// How long and how many the parts of a request may be: everything that a client sends is looked at here, before
// anything is built from it or kept.
#pragma once

#include <google/protobuf/message.h>

#include "absl/status/status.h"

namespace loupe::coordinator::api {

// INVALID_ARGUMENT with a field violation for each text that is too long and each list that is too large
// ("spec.factors[3].levels: 20000 entries, at most 10000 are allowed"). A field without a limit of its own in
// request_limits.cc has the general one.
//
// What workers report about their trials (failure messages, phases, descriptions) is cut where it is read, not refused:
// a worker cannot say it in another way, and the trial must end.
absl::Status CheckLimits(const google::protobuf::Message& request);

}  // namespace loupe::coordinator::api
