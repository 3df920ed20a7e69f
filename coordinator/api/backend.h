// What all handlers share, whatever front end a call comes by: the engine's thread, the store, the artifacts, who may
// do what.
#pragma once

#include <atomic>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "common/clock.h"
#include "common/random_source.h"
#include "common/trace/span_exporter.h"
#include "coordinator/access/access.h"
#include "coordinator/access/client_limits.h"
#include "coordinator/access/open_calls.h"
#include "coordinator/access/rate_limiter.h"
#include "coordinator/api/work_pool.h"
#include "coordinator/engine/engine_thread.h"
#include "coordinator/engine/plan_cache.h"
#include "coordinator/engine/worker_telemetry.h"
#include "coordinator/store/artifact_folder.h"
#include "coordinator/store/store_reader.h"
#include "coordinator/store/trial_logs.h"
#include "coordinator/trace/sweep_traces.h"

namespace loupe::coordinator::api {

// Owns nothing; everything outlives the handlers.
struct Backend {
  engine::EngineThread* engine = nullptr;
  store::StoreReader* store = nullptr;
  store::ArtifactFolder* artifacts = nullptr;
  engine::PlanCache* plans = nullptr;
  store::TrialLogs* logs = nullptr;
  engine::WorkerTelemetryTable* telemetry = nullptr;
  const Clock* clock = nullptr;
  RandomSource* random = nullptr;
  // nullptr: everybody may do everything (only for in-process tests).
  access::AccessControl* access = nullptr;
  // nullptr: nobody is held back.
  access::RateLimiter* limiter = nullptr;
  // What is open, and the threads on which bodies run (call.h).
  access::OpenCalls* calls = nullptr;
  WorkPool* pool = nullptr;
  // Null: calls have no spans, sweeps no traces.
  loupe::trace::SpanExporter* spans = nullptr;
  trace::SweepTraces* traces = nullptr;
  access::ClientLimits limits;
  // One line per change that a caller asked for: time, caller, method, object, outcome. May be empty.
  std::function<void(const std::string& line)> audit;
};

// What a front end knows of a call before anybody is admitted.
struct CallOrigin {
  // The "authorization" header; empty for none.
  std::string authorization;
  // The machine at the other end, without a port, which every connection changes: "ipv4:127.0.0.1".
  std::string machine;
  // The "traceparent" header (common/trace/trace_context.h); empty for none.
  std::string traceparent = {};
};

// Whose shares a call counts against: the caller, from the machine it calls from.
std::string ClientName(const access::Caller& caller, const std::string& machine);

// Who calls: UNAUTHENTICATED for nobody that is known, RESOURCE_EXHAUSTED with the reason RATE_LIMITED for too many
// calls.
absl::StatusOr<access::Caller> Identify(const Backend& backend, const CallOrigin& origin);

// The same, and PERMISSION_DENIED when it may not do what needs `role`.
absl::StatusOr<access::Caller> Admit(const Backend& backend, const CallOrigin& origin, access::Role role);

// AIP-158. Page sizes: 0 means `fallback`, more than `most` is taken as `most`; INVALID_ARGUMENT when negative.
absl::StatusOr<int64_t> PageSize(int32_t asked, int64_t fallback, int64_t most);
// A page is also full when it has so many bytes, whatever its rows are: clients take messages of at most 4 MiB.
inline constexpr size_t kPageBytes = 2 << 20;
// An opaque token that only the same request continues: `position` bound to a digest of `request_key`.
std::string MakePageToken(const std::string& position, const std::string& request_key);
// Empty for an empty token. INVALID_ARGUMENT for one that was not made for this request.
absl::StatusOr<std::string> ReadPageToken(const std::string& token, const std::string& request_key);

}  // namespace loupe::coordinator::api
