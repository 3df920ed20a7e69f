// Stands between worker and coordinator and changes their messages, as a program of another version would have written
// them.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/server.h>

#include <functional>
#include <memory>
#include <string>

namespace loupe::testing {

class RewritingProxy {
 public:
  // `method` is "package.Service/Method"; returns the bytes to send on. Called on many threads.
  using Rewrite = std::function<std::string(const std::string& method, bool is_request, std::string bytes)>;

  // Listens on a free port of 127.0.0.1 and passes every call on over `upstream`, with its token, deadline and status.
  RewritingProxy(std::shared_ptr<grpc::Channel> upstream, Rewrite rewrite);
  // Calls under way are cancelled.
  ~RewritingProxy();

  const std::string& address() const { return address_; }

 private:
  class Service;
  std::unique_ptr<Service> service_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

}  // namespace loupe::testing
