// What runs now, as the workers say.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "cli/connect.h"
#include "google/protobuf/repeated_ptr_field.h"
#include "loupe/v1/sweep.pb.h"

namespace loupe::cli {

// The attempts of a trial ("sweeps/cats/trials/7") or of a sweep's trials ("sweeps/cats"), with their workers; of a
// worker that holds very many, the first. A coordinator that does not say gives none.
absl::StatusOr<google::protobuf::RepeatedPtrField<v1::RunningAttempt>> RunningAttemptsOf(
    const clients::rpc::Connection& connection, const std::string& name);

}  // namespace loupe::cli
