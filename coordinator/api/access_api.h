// What AccessService does, whatever front end asks: workers' own tokens and certificates (loupe/v1/access.proto has the
// contract).
#pragma once

#include <string>

#include "coordinator/access/server_tls.h"
#include "coordinator/api/call.h"
#include "loupe/v1/access.pb.h"

namespace loupe::coordinator::api {

// Thread-safe. Each method answers `call`; request and response live until then.
class AccessApi {
 public:
  // `tls` outlives it.
  AccessApi(const Backend& backend, const access::ServerTls& tls) : backend_(backend), tls_(tls) {}

  void Enrol(UnaryCall* call, const v1::EnrolRequest& request, v1::WorkerCredentials* response);
  void RenewCredentials(UnaryCall* call, const v1::RenewCredentialsRequest& request, v1::WorkerCredentials* response);

 private:
  absl::Status Fill(absl::Time end, const std::string& worker, v1::WorkerCredentials& response) const;

  const Backend backend_;
  const access::ServerTls& tls_;
};

}  // namespace loupe::coordinator::api
