#include "tests/testing/rewriting_proxy.h"

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>

#include <chrono>
#include <thread>
#include <utility>
#include <vector>

#include "fmt/format.h"
#include "tests/testing/raw_call.h"

namespace loupe::testing {
namespace {

// Reads all of the client's messages, makes the call on a thread of its own, writes all that came back. Deletes itself.
class PassedCall final : public grpc::ServerGenericBidiReactor {
 public:
  PassedCall(std::shared_ptr<grpc::Channel> upstream, const RewritingProxy::Rewrite& rewrite,
             grpc::GenericCallbackServerContext& context)
      : upstream_(std::move(upstream)), rewrite_(rewrite), method_(context.method().substr(1)) {
    upstream_context_.set_deadline(context.deadline());
    for (const auto& [key, value] : context.client_metadata()) {
      if (key == "authorization")
        upstream_context_.AddMetadata("authorization", std::string(value.data(), value.size()));
    }
    StartRead(&buffer_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      // The server waits for OnDone, which comes after the thread's last step.
      std::thread([this] { Call(); }).detach();
      return;
    }
    requests_.push_back(rewrite_(method_, /*is_request=*/true, ToString(buffer_)));
    StartRead(&buffer_);
  }
  void OnWriteDone(bool ok) override {
    if (ok) return WriteNext();
    // The client is gone. A call that is never finished would hold the server's end up for ever.
    Finish(grpc::Status::CANCELLED);
  }
  void OnCancel() override { upstream_context_.TryCancel(); }
  void OnDone() override { delete this; }

 private:
  void Call() {
    answer_ = RawExchange(upstream_, method_, upstream_context_, requests_);
    WriteNext();
  }
  void WriteNext() {
    if (written_ == answer_.messages.size()) return Finish(answer_.status);
    buffer_ = ToByteBuffer(rewrite_(method_, /*is_request=*/false, answer_.messages[written_++]));
    StartWrite(&buffer_);
  }

  const std::shared_ptr<grpc::Channel> upstream_;
  const RewritingProxy::Rewrite& rewrite_;
  const std::string method_;
  grpc::ClientContext upstream_context_;
  grpc::ByteBuffer buffer_;
  std::vector<std::string> requests_;
  RawAnswer answer_;
  size_t written_ = 0;
};

}  // namespace

class RewritingProxy::Service final : public grpc::CallbackGenericService {
 public:
  Service(std::shared_ptr<grpc::Channel> upstream, Rewrite rewrite)
      : upstream_(std::move(upstream)), rewrite_(std::move(rewrite)) {}
  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext* context) override {
    return new PassedCall(upstream_, rewrite_, *context);
  }

 private:
  const std::shared_ptr<grpc::Channel> upstream_;
  const Rewrite rewrite_;
};

RewritingProxy::RewritingProxy(std::shared_ptr<grpc::Channel> upstream, Rewrite rewrite)
    : service_(std::make_unique<Service>(std::move(upstream), std::move(rewrite))) {
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterCallbackGenericService(service_.get());
  server_ = builder.BuildAndStart();
  address_ = fmt::format("127.0.0.1:{}", port);
}

RewritingProxy::~RewritingProxy() { server_->Shutdown(std::chrono::system_clock::now()); }

}  // namespace loupe::testing
