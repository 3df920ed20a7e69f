#include "coordinator/rpc/unary_reactor.h"

#include <algorithm>
#include <string>

namespace loupe::coordinator::rpc {

api::CallOrigin OriginOf(const grpc::ServerContextBase& context) {
  api::CallOrigin origin;
  const auto& metadata = context.client_metadata();
  if (const auto found = metadata.find("authorization"); found != metadata.end())
    origin.authorization.assign(found->second.data(), found->second.size());
  if (const auto found = metadata.find(loupe::trace::kTraceparent); found != metadata.end())
    origin.traceparent.assign(found->second.data(), found->second.size());
  // "ipv4:127.0.0.1:41234"
  origin.machine = context.peer();
  origin.machine.resize(std::min(origin.machine.size(), origin.machine.rfind(':')));
  return origin;
}

absl::StatusOr<std::unique_ptr<access::OpenCall>> OpenFor(const api::Backend& backend,
                                                          grpc::CallbackServerContext& context, access::Role role,
                                                          access::CallKind kind,
                                                          const google::protobuf::Message* request) {
  return api::OpenFor(
      backend, [&context] { return OriginOf(context); }, [&context] { context.TryCancel(); }, role, kind, request);
}

}  // namespace loupe::coordinator::rpc
