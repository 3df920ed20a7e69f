// absl::Status as the message that every front end sends, with the details of AIP-193.
#pragma once

#include "absl/status/status.h"
#include "google/rpc/status.pb.h"

namespace loupe::coordinator::api {

// Code and message stay; the message is cut to what fits in headers. ErrorInfo is always there (domain "loupe.v1";
// reason: the attached one, or the code's name); BadRequest where field violations are attached, RetryInfo where a wait
// is.
google::rpc::Status ToRpcStatus(const absl::Status& status);

}  // namespace loupe::coordinator::api
