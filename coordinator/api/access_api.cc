#include "coordinator/api/access_api.h"

#include <algorithm>

#include "common/ids.h"
#include "common/status_macros.h"

namespace loupe::coordinator::api {
namespace {

// The token is renewed before; a worker whose clock is late must not lose its certificate first.
constexpr absl::Duration kLongerThanToken = absl::Hours(24);

bool IsDigest(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

}  // namespace

absl::Status AccessApi::Fill(absl::Time end, const std::string& worker, v1::WorkerCredentials& response) const {
  response.mutable_expire_time()->set_seconds(absl::ToUnixSeconds(end));
  if (!tls_.authority()) return absl::OkStatus();
  LOUPE_ASSIGN_OR_RETURN(const access::Certificate made,
                         tls_.authority()->IssueClient(worker, access::kWorkerTokenLifetime + kLongerThanToken));
  response.set_certificate(made.certificate);
  response.set_key(made.key);
  if (tls_.issues_own_certificate()) response.set_authority(tls_.authority()->certificate());
  return absl::OkStatus();
}

void AccessApi::Enrol(UnaryCall* call, const v1::EnrolRequest& request, v1::WorkerCredentials* response) {
  ServeChange(backend_, call, access::Role::kEnrol, "enrolled", request.worker_id(), request,
              [this, &request, response](const access::Caller& caller, const std::string&) -> absl::Status {
                LOUPE_ASSIGN_OR_RETURN(const WorkerId worker, WorkerId::FromId(request.worker_id()));
                if (!IsDigest(request.token_sha256())) {
                  return absl::InvalidArgumentError("token_sha256 is no SHA-256: expected 64 hexadecimal digits");
                }
                LOUPE_ASSIGN_OR_RETURN(const absl::Time end,
                                       backend_.access->Enrol(caller, worker.id(), request.token_sha256()));
                return Fill(end, worker.name(), *response);
              });
}

void AccessApi::RenewCredentials(UnaryCall* call, const v1::RenewCredentialsRequest& request,
                                 v1::WorkerCredentials* response) {
  // The audit log names the worker, also where the renewal is refused; a look at the token alone counts against no
  // limit.
  const absl::StatusOr<access::Caller> caller = backend_.access->Authenticate(call->origin().authorization);
  const std::string worker = caller.ok() ? caller->worker : "";
  ServeChange(backend_, call, access::Role::kWorker, "renewed", worker, request,
              [this, response](const access::Caller& owner, const std::string&) -> absl::Status {
                LOUPE_ASSIGN_OR_RETURN(const absl::Time end, backend_.access->Renew(owner));
                return Fill(end, owner.name, *response);
              });
}

}  // namespace loupe::coordinator::api
