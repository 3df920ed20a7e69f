// A unary call that came by gRPC.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <functional>
#include <string>

#include "coordinator/api/call.h"
#include "coordinator/rpc/grpc_status.h"

namespace loupe::coordinator::rpc {

api::CallOrigin OriginOf(const grpc::ServerContextBase& context);

// OpenFor for a call in `context`, which outlives it.
absl::StatusOr<std::unique_ptr<access::OpenCall>> OpenFor(const api::Backend& backend,
                                                          grpc::CallbackServerContext& context, access::Role role,
                                                          access::CallKind kind,
                                                          const google::protobuf::Message* request);

// Opens the call of a reactor that streams; false when it is not admitted, and has been ended with why.
template <typename Reactor>
bool Admit(Reactor* reactor, const api::Backend& backend, grpc::CallbackServerContext& context, access::Role role,
           const google::protobuf::Message* request) {
  absl::StatusOr<std::unique_ptr<access::OpenCall>> open =
      OpenFor(backend, context, role, access::CallKind::kStream, request);
  if (!open.ok()) {
    reactor->End(open.status());
    return false;
  }
  reactor->SetOpen(*std::move(open));
  return true;
}

// Lives until gRPC is done with it, and deletes itself then.
class UnaryReactor final : public grpc::ServerUnaryReactor, public api::UnaryCall {
 public:
  UnaryReactor(grpc::CallbackServerContext& context, google::protobuf::Message* response)
      : api::UnaryCall(response), context_(context) {}

  // Hands a call to its handler.
  template <typename Api, typename Request, typename Response>
  static grpc::ServerUnaryReactor* Start(Api& api, void (Api::*method)(api::UnaryCall*, const Request&, Response*),
                                         grpc::CallbackServerContext* context, const Request* request,
                                         Response* response) {
    auto* reactor = new UnaryReactor(*context, response);
    api::RunNow(reactor, [&] { (api.*method)(reactor, *request, response); });
    return reactor;
  }

  api::CallOrigin origin() const override { return OriginOf(context_); }
  std::function<void()> MakeEnd() const override {
    return [&context = context_] { context.TryCancel(); };
  }
  void OnCancel() override { NoteCancelled(); }
  void OnDone() override {
    Take();
    delete this;
  }

 private:
  void Send(const absl::Status& status) override {
    HandOver();
    Finish(ToGrpcStatus(status));
  }

  grpc::CallbackServerContext& context_;
};

}  // namespace loupe::coordinator::rpc
