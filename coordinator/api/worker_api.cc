#include "coordinator/api/worker_api.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

#include "common/ids.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "coordinator/api/convert.h"
#include "coordinator/api/rpc_status.h"
#include "coordinator/engine/result_check.h"
#include "fmt/format.h"

namespace loupe::coordinator::api {
namespace {

absl::Status FillAssignment(const Backend& backend, const scheduler::DesiredAttempt& attempt, int32_t worker_version,
                            v1::TrialAssignment& assignment) {
  std::shared_ptr<const plan::Plan> plan = backend.plans->Find(attempt.sweep_uid);
  if (plan == nullptr) {
    LOUPE_ASSIGN_OR_RETURN(const scheduler::SweepRecord sweep, backend.store->GetSweep(attempt.sweep_id));
    LOUPE_ASSIGN_OR_RETURN(plan, backend.plans->Get(sweep));
  }
  const settings::Settings settings = plan->CellSettings(attempt.cell);
  // What the worker does not know is at its neutral value, or it would not have been given the trial.
  for (const auto& [key, value] : settings::SettingsForVersion(settings.values(), worker_version))
    (*assignment.mutable_settings())[key] = value;
  // Complete for that version: a worker that is newer than it says takes the rest as neutral.
  assignment.set_settings_version(std::min(plan->spec().defaults.version, worker_version));
  assignment.set_sweep_seed(attempt.sweep_seed);
  assignment.set_replicate(attempt.replicate);
  for (const auto& [factor, level] : plan->CellLevels(attempt.cell)) (*assignment.mutable_cell())[factor] = level;
  return absl::OkStatus();
}

// Clients take messages of at most 4 MiB: what a worker is to begin is told in portions. (Leases and verdicts of a
// thousand attempts take a quarter of the rest.)
constexpr size_t kMaxAssignedBytes = 2 << 20;
// Beside the list of workers.
constexpr size_t kMostWaitingListed = 1000;

absl::Status FillResponse(const Backend& backend, const v1::SynchronizeRequest& request,
                          const scheduler::SyncAnswer& answer, v1::SynchronizeResponse& response) {
  std::set<std::string_view> reported;
  for (const v1::AttemptReport& report : request.attempts()) reported.insert(report.lease().lease_token());
  const int32_t worker_version = std::max(1, request.description().abilities().settings_version());
  size_t assigned_bytes = 0;
  bool all = true;
  for (const scheduler::DesiredAttempt& attempt : answer.desired) {
    v1::LeaseKey lease = ToProto(attempt);
    // What a worker reports it has, and needs no telling again.
    const bool known = reported.contains(lease.lease_token());
    if (!known && assigned_bytes > kMaxAssignedBytes) {
      // It is told at its next call, which comes at once; until then its lease is renewed like the others'.
      all = false;
      continue;
    }
    v1::DesiredAttempt* desired = response.add_attempts();
    *desired->mutable_lease() = std::move(lease);
    SetDuration(answer.lease, desired->mutable_lease_duration());
    desired->set_finish_after_step(attempt.finish_after_step);
    if (known) continue;
    if (backend.traces != nullptr)
      desired->set_traceparent(backend.traces->TraceparentOf(attempt.sweep_uid, attempt.trial.index, attempt.epoch));
    LOUPE_RETURN_IF_ERROR(FillAssignment(backend, attempt, worker_version, *desired->mutable_assignment()));
    assigned_bytes += desired->ByteSizeLong();
  }
  for (size_t i = 0; i < answer.verdicts.size(); ++i) {
    v1::AttemptVerdict* verdict = response.add_verdicts();
    *verdict->mutable_lease() = request.attempts(static_cast<int>(i)).lease();
    *verdict->mutable_status() = ToRpcStatus(answer.verdicts[i].status);
    verdict->set_acknowledged_point_sequence(answer.verdicts[i].acknowledged_point_sequence);
  }
  SetDuration(all ? answer.next_sync_after : absl::ZeroDuration(), response.mutable_next_sync_after());
  response.set_draining(answer.draining);
  return absl::OkStatus();
}

// Plans that are not at hand (the first trial after a start, a sweep that nobody has worked on for long) are made on
// the pool's threads: the engine's has other workers waiting.
bool HasPlansOf(const Backend& backend, const scheduler::SyncRequest& request) {
  return std::all_of(request.attempts.begin(), request.attempts.end(), [&](const scheduler::AttemptReport& report) {
    return !std::holds_alternative<scheduler::Result>(report.outcome) || backend.plans->Knows(report.lease.sweep_id);
  });
}

void MakePlansOf(const Backend& backend, const scheduler::SyncRequest& request) {
  for (const scheduler::AttemptReport& report : request.attempts) {
    if (backend.plans->Knows(report.lease.sweep_id)) continue;
    // Without a plan the result is taken as it is.
    if (const auto sweep = backend.store->GetSweep(report.lease.sweep_id); sweep.ok())
      backend.plans->Get(*sweep).status().IgnoreError();
  }
}

// Lines that came under a lease that was held.
void KeepLogs(store::TrialLogs& logs, const v1::SynchronizeRequest& request, const scheduler::SyncAnswer& answer) {
  for (size_t i = 0; i < answer.verdicts.size(); ++i) {
    const v1::AttemptReport& report = request.attempts(static_cast<int>(i));
    if (report.log().empty() || answer.verdicts[i].sweep_uid.empty()) continue;
    const absl::StatusOr<TrialId> trial = TrialId::FromName(report.lease().trial());
    if (!trial.ok()) continue;
    logs.Append({answer.verdicts[i].sweep_uid, trial->index(), report.lease().epoch()},
                Sha256Hex(report.lease().lease_token()), LogLinesOf(report));
  }
}

}  // namespace

void WorkerApi::Submit(UnaryCall* call, scheduler::SyncRequest sync, const v1::SynchronizeRequest& request,
                       v1::SynchronizeResponse* response, uint64_t id) {
  // Request and response live until Answer, which is called exactly once. On the engine's thread no exception may leave
  // the reply.
  auto reply = [this, call, &request, response](absl::StatusOr<scheduler::SyncAnswer> answer) {
    RunNow(call, [&] {
      if (!answer.ok()) return call->Answer(answer.status());
      // A result that is stored is answered, whatever becomes of its log.
      if (backend_.logs != nullptr) Guarded([&] { KeepLogs(*backend_.logs, request, *answer); }).IgnoreError();
      const bool at_hand = std::all_of(
          answer->desired.begin(), answer->desired.end(),
          [&](const scheduler::DesiredAttempt& attempt) { return backend_.plans->Knows(attempt.sweep_id); });
      const auto fill = [this, call, &request, response, answer = *std::move(answer)] {
        call->Answer(FillResponse(backend_, request, answer, *response));
      };
      at_hand ? fill() : RunLater(backend_, call, fill);
    });
  };
  backend_.engine->Submit(engine::SyncCall{std::move(sync), ToAbslDuration(request.max_wait()), std::move(reply), id});
}

void WorkerApi::Synchronize(UnaryCall* call, const v1::SynchronizeRequest& request, v1::SynchronizeResponse* response) {
  const uint64_t id = next_call_++;
  if (!Enter(backend_, call, access::Role::kWorker, access::CallKind::kHeld, request)) return;
  RunNow(call, [&] {
    absl::StatusOr<scheduler::SyncRequest> sync = FromProto(request);
    absl::Status status = sync.status();
    if (status.ok() && backend_.access != nullptr)
      status = backend_.access->ClaimWorker(call->open()->caller(), sync->worker);
    if (!status.ok()) return call->Answer(status);
    if (backend_.telemetry != nullptr) backend_.telemetry->Note(sync->worker, request, backend_.clock->MonotonicNow());
    sync->examine = engine::MakeResultExaminer(*backend_.plans);
    call->SetOnCancel([engine = backend_.engine, worker = sync->worker, id] {
      engine->Post([worker, id](engine::Engine& held) { held.CancelSync(worker, id); });
    });
    if (HasPlansOf(backend_, *sync)) {
      Submit(call, *std::move(sync), request, response, id);
    } else {
      RunLater(backend_, call, [this, call, sync = *std::move(sync), &request, response, id] {
        MakePlansOf(backend_, sync);
        Submit(call, sync, request, response, id);
      });
    }
  });
}

absl::StatusOr<std::vector<v1::Worker>> WorkerApi::Workers() {
  LOUPE_ASSIGN_OR_RETURN(const std::vector<scheduler::SweepRecord> sweeps, backend_.store->ListSweeps(0, 100000));
  std::map<scheduler::SweepKey, std::string> ids;
  for (const scheduler::SweepRecord& sweep : sweeps) ids.emplace(sweep.key, sweep.id);
  LOUPE_ASSIGN_OR_RETURN(std::vector<v1::Worker> workers,
                         backend_.engine->Call<std::vector<v1::Worker>>(
                             [ids = std::move(ids)](scheduler::Scheduler& scheduler, const scheduler::Now& now,
                                                    scheduler::Effects&) -> absl::StatusOr<std::vector<v1::Worker>> {
                               std::vector<v1::Worker> workers;
                               for (const auto& [id, worker] : scheduler.workers().all()) {
                                 workers.push_back(ToProto(worker, ids, scheduler.options().lease, now.monotonic));
                               }
                               return workers;
                             }));
  if (backend_.telemetry == nullptr) return workers;
  for (v1::Worker& worker : workers) {
    if (worker.state() == v1::Worker::LOST) continue;
    auto said = backend_.telemetry->Of(worker.name().substr(worker.name().find('/') + 1));
    if (!said) continue;
    if (said->telemetry) *worker.mutable_telemetry() = *std::move(said->telemetry);
    for (v1::RunningAttempt& attempt : said->attempts) *worker.add_attempts() = std::move(attempt);
  }
  return workers;
}

absl::Status WorkerApi::AddDemand(v1::ListWorkersResponse& response) {
  struct Seen {
    std::vector<scheduler::WaitingTrials> waiting;
    scheduler::Scheduler::Demand demand;
  };
  LOUPE_ASSIGN_OR_RETURN(
      const Seen seen,
      backend_.engine->Call<Seen>([](scheduler::Scheduler& scheduler, const scheduler::Now& now, scheduler::Effects&) {
        return absl::StatusOr<Seen>(Seen{scheduler.Waiting(now, kMostWaitingListed), scheduler.DemandAt(now)});
      }));
  for (const scheduler::WaitingTrials& waiting : seen.waiting) *response.add_waiting() = ToProto(waiting);
  response.set_wanted_workers(seen.demand.wanted);
  response.set_available_workers(seen.demand.available);
  return absl::OkStatus();
}

absl::Status WorkerApi::List(const v1::ListWorkersRequest& request, v1::ListWorkersResponse& response) {
  LOUPE_ASSIGN_OR_RETURN(const int64_t size, PageSize(request.page_size(), 100, 1000));
  LOUPE_ASSIGN_OR_RETURN(const std::string after, ReadPageToken(request.page_token(), "ListWorkers"));
  if (after.empty()) LOUPE_RETURN_IF_ERROR(AddDemand(response));
  LOUPE_ASSIGN_OR_RETURN(const std::vector<v1::Worker> workers, Workers());
  for (const v1::Worker& worker : workers) {
    if (worker.name() <= after) continue;
    if (response.workers_size() == size || response.ByteSizeLong() > kPageBytes) {
      response.set_next_page_token(MakePageToken(response.workers(response.workers_size() - 1).name(), "ListWorkers"));
      break;
    }
    *response.add_workers() = worker;
  }
  return absl::OkStatus();
}

void WorkerApi::Drain(UnaryCall* call, const v1::WorkerVerbRequest& request, bool draining, v1::Worker& response) {
  ServeChange(backend_, call, access::Role::kAdmin, draining ? "drained" : "undrained", request.name(), request,
              [this, name = request.name(), draining, &response]() -> absl::Status {
                LOUPE_ASSIGN_OR_RETURN(const WorkerId id, WorkerId::FromName(name));
                LOUPE_RETURN_IF_ERROR(backend_.engine
                                          ->Call<bool>([=](scheduler::Scheduler& scheduler, const scheduler::Now& now,
                                                           scheduler::Effects& effects) -> absl::StatusOr<bool> {
                                            LOUPE_RETURN_IF_ERROR(scheduler.OnDrain(id.id(), draining, now, effects));
                                            return true;
                                          })
                                          .status());
                LOUPE_ASSIGN_OR_RETURN(const std::vector<v1::Worker> workers, Workers());
                for (const v1::Worker& worker : workers) {
                  if (worker.name() == name) response = worker;
                }
                return absl::OkStatus();
              });
}

void WorkerApi::ListWorkers(UnaryCall* call, const v1::ListWorkersRequest& request, v1::ListWorkersResponse* response) {
  Serve(backend_, call, access::Role::kViewer, request, [=, this, &request] { return List(request, *response); });
}

void WorkerApi::DrainWorker(UnaryCall* call, const v1::WorkerVerbRequest& request, v1::Worker* response) {
  Drain(call, request, true, *response);
}

void WorkerApi::UndrainWorker(UnaryCall* call, const v1::WorkerVerbRequest& request, v1::Worker* response) {
  Drain(call, request, false, *response);
}

}  // namespace loupe::coordinator::api
