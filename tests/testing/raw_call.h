// Calls any method by its name with any bytes, as a client without our stubs would.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace loupe::testing {

struct RawAnswer {
  std::vector<std::string> messages;
  grpc::Status status;
};

// `method` is "package.Service/Method". Sends `messages` (serialised), reads what comes back to its end. Deadline and
// metadata are the context's.
RawAnswer RawExchange(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                      grpc::ClientContext& context, const std::vector<std::string>& messages);

// The status alone. An empty token sends none. Ends with the deadline.
grpc::Status RawCall(const std::shared_ptr<grpc::Channel>& channel, const std::string& method, const std::string& token,
                     const std::vector<std::string>& messages, absl::Duration deadline = absl::Seconds(20));

// One message's bytes.
std::string ToString(const grpc::ByteBuffer& buffer);
grpc::ByteBuffer ToByteBuffer(const std::string& bytes);

}  // namespace loupe::testing
