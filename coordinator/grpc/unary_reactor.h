// A unary call that came by gRPC.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <functional>
#include <string>

#include "coordinator/api/call.h"
#include "coordinator/grpc/grpc_status.h"

namespace loupe::coordinator {

CallOrigin OriginOf(const grpc::ServerContextBase& context);

// OpenFor for a call in `context`, which outlives it.
absl::StatusOr<std::unique_ptr<OpenCall>> OpenFor(const Backend& backend, grpc::CallbackServerContext& context,
                                                  Role role, CallKind kind, const google::protobuf::Message* request);

// Opens the call of a reactor that streams; false when it is not admitted, and has been ended with why.
template <typename Reactor>
bool Admit(Reactor* reactor, const Backend& backend, grpc::CallbackServerContext& context, Role role,
           const google::protobuf::Message* request) {
  absl::StatusOr<std::unique_ptr<OpenCall>> open = OpenFor(backend, context, role, CallKind::kStream, request);
  if (!open.ok()) {
    reactor->End(open.status());
    return false;
  }
  reactor->SetOpen(*std::move(open));
  return true;
}

// Lives until gRPC is done with it, and deletes itself then.
class UnaryReactor final : public grpc::ServerUnaryReactor, public UnaryCall {
 public:
  UnaryReactor(grpc::CallbackServerContext& context, google::protobuf::Message* response)
      : UnaryCall(response), context_(context) {}

  // Hands a call to its handler.
  template <typename Api, typename Request, typename Response>
  static grpc::ServerUnaryReactor* Start(Api& api, void (Api::*method)(UnaryCall*, const Request&, Response*),
                                         grpc::CallbackServerContext* context, const Request* request,
                                         Response* response) {
    auto* reactor = new UnaryReactor(*context, response);
    RunNow(reactor, [&] { (api.*method)(reactor, *request, response); });
    return reactor;
  }

  CallOrigin origin() const override { return OriginOf(context_); }
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

}  // namespace loupe::coordinator
