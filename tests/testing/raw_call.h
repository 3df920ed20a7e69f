// Calls any method by its name with any bytes, as a client without our stubs would.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/support/status.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace loupe::testing {

// `method` is "package.Service/Method". Sends `messages` (serialised), reads what comes back to its end, and returns the
// status. An empty token sends none. Ends with the deadline.
grpc::Status RawCall(const std::shared_ptr<grpc::Channel>& channel, const std::string& method, const std::string& token,
                     const std::vector<std::string>& messages, absl::Duration deadline = absl::Seconds(20));

}  // namespace loupe::testing
