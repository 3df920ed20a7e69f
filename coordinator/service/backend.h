// What all services share: the engine's thread, the store, the artifacts, who may do what.
#pragma once

#include <grpcpp/server_context.h>

#include <atomic>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "common/clock.h"
#include "common/random_source.h"
#include "coordinator/service/access.h"
#include "coordinator/service/client_limits.h"
#include "coordinator/service/engine_thread.h"
#include "coordinator/service/grpc_status.h"
#include "coordinator/service/plan_cache.h"
#include "coordinator/service/rate_limiter.h"
#include "coordinator/store/artifact_folder.h"
#include "coordinator/store/store.h"

namespace loupe::coordinator {

// Owns nothing; everything outlives the services.
struct Backend {
  EngineThread* engine = nullptr;
  Store* store = nullptr;
  ArtifactFolder* artifacts = nullptr;
  PlanCache* plans = nullptr;
  const Clock* clock = nullptr;
  RandomSource* random = nullptr;
  // nullptr: everybody may do everything (only for in-process tests).
  AccessControl* access = nullptr;
  // nullptr: nobody is held back.
  RateLimiter* limiter = nullptr;
  ClientLimits limits;
  // One line per change that a caller asked for: time, caller, method, object, outcome. May be empty.
  std::function<void(const std::string& line)> audit;
};

// Who calls: UNAUTHENTICATED for nobody that is known, RESOURCE_EXHAUSTED with the reason RATE_LIMITED for too many calls.
absl::StatusOr<Caller> Identify(const Backend& backend, const grpc::ServerContextBase& context);

// The same, and PERMISSION_DENIED when it may not do what needs `role`.
absl::StatusOr<Caller> Admit(const Backend& backend, const grpc::ServerContextBase& context, Role role);

// The frame of every synchronous method: admits the caller, runs `body` (→ absl::Status), converts its status.
template <typename Body>
grpc::Status Serve(const Backend& backend, const grpc::ServerContextBase& context, Role role, Body body) {
  if (absl::StatusOr<Caller> caller = Admit(backend, context, role); !caller.ok()) return ToGrpcStatus(caller.status());
  return ToGrpcStatus(body());
}

// One line for the audit log. Calls that were held back for their number leave none: they could fill the disk.
void Audit(const Backend& backend, const absl::StatusOr<Caller>& caller, const char* method, const std::string& object,
           const absl::Status& status);

// The same for a method that changes something: its outcome goes to the audit log under `method` and `object`.
template <typename Body>
grpc::Status ServeChange(const Backend& backend, const grpc::ServerContextBase& context, Role role, const char* method,
                         const std::string& object, Body body) {
  const absl::StatusOr<Caller> caller = Identify(backend, context);
  absl::Status status = caller.ok() ? AccessControl::Authorize(*caller, role) : caller.status();
  if (status.ok()) status = body();
  Audit(backend, caller, method, object, status);
  return ToGrpcStatus(status);
}

// AIP-158. Page sizes: 0 means `fallback`, more than `most` is taken as `most`; INVALID_ARGUMENT when negative.
absl::StatusOr<int64_t> PageSize(int32_t asked, int64_t fallback, int64_t most);
// An opaque token that only the same request continues: `position` bound to a digest of `request_key`.
std::string MakePageToken(const std::string& position, const std::string& request_key);
// Empty for an empty token. INVALID_ARGUMENT for one that was not made for this request.
absl::StatusOr<std::string> ReadPageToken(const std::string& token, const std::string& request_key);

}  // namespace loupe::coordinator
