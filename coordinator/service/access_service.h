// AccessService: workers' own tokens and certificates.
#pragma once

#include "coordinator/service/backend.h"
#include "coordinator/service/server_tls.h"
#include "loupe/v1/access.grpc.pb.h"

namespace loupe::coordinator {

class AccessServiceImpl final : public v1::AccessService::CallbackService {
 public:
  // Both outlive it.
  AccessServiceImpl(const Backend& backend, const ServerTls& tls) : backend_(backend), tls_(tls) {}

  grpc::ServerUnaryReactor* Enrol(grpc::CallbackServerContext* context, const v1::EnrolRequest* request,
                                  v1::WorkerCredentials* response) override;
  grpc::ServerUnaryReactor* RenewCredentials(grpc::CallbackServerContext* context,
                                             const v1::RenewCredentialsRequest* request,
                                             v1::WorkerCredentials* response) override;

 private:
  absl::Status Fill(absl::Time end, const std::string& worker, v1::WorkerCredentials& response) const;

  const Backend backend_;
  const ServerTls& tls_;
};

}  // namespace loupe::coordinator
