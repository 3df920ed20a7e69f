#include "coordinator/service/worker_service.h"

#include <utility>

#include "common/ids.h"
#include "common/status_macros.h"
#include "coordinator/service/convert.h"
#include "fmt/format.h"

namespace loupe::coordinator {
namespace {

constexpr size_t kMaxChunkBytes = (1 << 20) + 1024;

// One Synchronize that may be held. Deletes itself when gRPC is done with it.
class SyncReactor final : public grpc::ServerUnaryReactor {
 public:
  SyncReactor(EngineThread& engine, std::string worker, uint64_t id) : engine_(engine), worker_(std::move(worker)), id_(id) {}
  void OnCancel() override {
    engine_.Post([worker = worker_, id = id_](Engine& engine) { engine.CancelSync(worker, id); });
  }
  void OnDone() override { delete this; }

 private:
  EngineThread& engine_;
  const std::string worker_;
  const uint64_t id_;
};

// On the engine's thread: the store is only read where the plan is not at hand, for the first trial after a start.
absl::Status FillAssignment(const Backend& backend, const DesiredAttempt& attempt, v1::TrialAssignment& assignment) {
  std::shared_ptr<const Plan> plan = backend.plans->Find(attempt.sweep_uid);
  if (plan == nullptr) {
    LOUPE_ASSIGN_OR_RETURN(const SweepRecord sweep, backend.store->GetSweep(attempt.sweep_id));
    LOUPE_ASSIGN_OR_RETURN(plan, backend.plans->Get(sweep));
  }
  const Settings settings = plan->CellSettings(attempt.cell);
  for (const auto& [key, value] : settings.values()) (*assignment.mutable_settings())[key] = value;
  assignment.set_sweep_seed(attempt.sweep_seed);
  assignment.set_replicate(attempt.replicate);
  for (const auto& [factor, level] : plan->CellLevels(attempt.cell)) (*assignment.mutable_cell())[factor] = level;
  return absl::OkStatus();
}

absl::Status FillResponse(const Backend& backend, const v1::SynchronizeRequest& request, const SyncAnswer& answer,
                          v1::SynchronizeResponse& response) {
  for (const DesiredAttempt& attempt : answer.desired) {
    v1::DesiredAttempt* desired = response.add_attempts();
    *desired->mutable_lease() = ToProto(attempt);
    LOUPE_RETURN_IF_ERROR(FillAssignment(backend, attempt, *desired->mutable_assignment()));
    SetDuration(answer.lease, desired->mutable_lease_duration());
  }
  for (size_t i = 0; i < answer.verdicts.size(); ++i) {
    v1::AttemptVerdict* verdict = response.add_verdicts();
    *verdict->mutable_lease() = request.attempts(static_cast<int>(i)).lease();
    *verdict->mutable_status() = ToRpcStatus(answer.verdicts[i].status);
    verdict->set_acknowledged_point_sequence(answer.verdicts[i].acknowledged_point_sequence);
  }
  SetDuration(answer.next_sync_after, response.mutable_next_sync_after());
  response.set_draining(answer.draining);
  return absl::OkStatus();
}

}  // namespace

grpc::ServerUnaryReactor* WorkerServiceImpl::Synchronize(grpc::CallbackServerContext* context,
                                                         const v1::SynchronizeRequest* request,
                                                         v1::SynchronizeResponse* response) {
  const uint64_t id = next_call_++;
  absl::StatusOr<SyncRequest> sync = FromProto(*request);
  auto* reactor = new SyncReactor(*backend_.engine, sync.ok() ? sync->worker : "", id);
  absl::Status status = Admit(backend_, *context, Role::kWorker).status();
  if (status.ok()) status = sync.status();
  if (!status.ok()) {
    reactor->Finish(ToGrpcStatus(status));
    return reactor;
  }
  // Request and response live until Finish, which is called exactly once.
  backend_.engine->Submit(SyncCall{
      *std::move(sync), ToAbslDuration(request->max_wait()),
      [this, reactor, request, response](absl::StatusOr<SyncAnswer> answer) {
        absl::Status outcome = answer.status();
        if (outcome.ok()) outcome = FillResponse(backend_, *request, *answer, *response);
        reactor->Finish(ToGrpcStatus(outcome));
      },
      id});
  return reactor;
}

absl::Status WorkerServiceImpl::Upload(grpc::ServerReader<v1::UploadArtifactRequest>& reader,
                                       v1::UploadArtifactResponse& response) {
  v1::UploadArtifactRequest message;
  if (!reader.Read(&message) || !message.has_header()) {
    return absl::InvalidArgumentError("the first message of an upload must be its header");
  }
  const v1::UploadArtifactRequest::Header header = message.header();
  LOUPE_ASSIGN_OR_RETURN(const LeaseClaim claim, FromProto(header.lease()));
  LOUPE_RETURN_IF_ERROR(CheckArtifactName(header.artifact().name()));
  LOUPE_RETURN_IF_ERROR(backend_.artifacts->PathOf(header.artifact().sha256()).status());
  if (header.artifact().size_bytes() < 0 || header.artifact().size_bytes() > backend_.limits.max_artifact_bytes) {
    return absl::InvalidArgumentError(fmt::format("artifact '{}' has {} bytes: expected 0 to {}", header.artifact().name(),
                                                  header.artifact().size_bytes(), backend_.limits.max_artifact_bytes));
  }
  // Refused before the bytes come, and again when they are there: the lease may be lost in between.
  const auto check = [claim](Scheduler& scheduler, const Now&, Effects&) { return scheduler.CheckLease(claim); };
  LOUPE_RETURN_IF_ERROR(backend_.engine->Call<TrialKey>(check).status());
  LOUPE_ASSIGN_OR_RETURN(const std::unique_ptr<ArtifactFolder::Upload> upload, backend_.artifacts->Begin());
  int64_t received = 0;
  while (reader.Read(&message)) {
    received += static_cast<int64_t>(message.chunk().size());
    if (message.has_header() || message.chunk().size() > kMaxChunkBytes || received > header.artifact().size_bytes()) {
      return absl::InvalidArgumentError("after its header an upload has chunks of at most 1 MiB, and no more bytes than announced");
    }
    LOUPE_RETURN_IF_ERROR(upload->Append(message.chunk()));
  }
  LOUPE_RETURN_IF_ERROR(upload->Finish(header.artifact().size_bytes(), header.artifact().sha256()));
  const ArtifactRecord record{.name = header.artifact().name(),
                              .media_type = header.artifact().media_type().substr(0, 128),
                              .size_bytes = header.artifact().size_bytes(),
                              .sha256 = header.artifact().sha256(),
                              .epoch = claim.epoch};
  LOUPE_RETURN_IF_ERROR(backend_.engine
                            ->Call<bool>([claim, record](Scheduler& scheduler, const Now&, Effects& effects) -> absl::StatusOr<bool> {
                              LOUPE_RETURN_IF_ERROR(scheduler.OnArtifact(claim, record, effects));
                              return true;
                            })
                            .status());
  *response.mutable_artifact() = ToProto(record);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<v1::Worker>> WorkerServiceImpl::Workers() {
  LOUPE_ASSIGN_OR_RETURN(const std::vector<SweepRecord> sweeps, backend_.store->ListSweeps(0, 100000));
  std::map<SweepKey, std::string> ids;
  for (const SweepRecord& sweep : sweeps) ids.emplace(sweep.key, sweep.id);
  return backend_.engine->Call<std::vector<v1::Worker>>(
      [ids = std::move(ids)](Scheduler& scheduler, const Now& now, Effects&) -> absl::StatusOr<std::vector<v1::Worker>> {
        std::vector<v1::Worker> workers;
        for (const auto& [id, worker] : scheduler.workers().all()) {
          workers.push_back(ToProto(worker, ids, scheduler.options().lease, now.monotonic));
        }
        return workers;
      });
}

absl::Status WorkerServiceImpl::List(const v1::ListWorkersRequest& request, v1::ListWorkersResponse& response) {
  LOUPE_ASSIGN_OR_RETURN(const int64_t size, PageSize(request.page_size(), 100, 1000));
  LOUPE_ASSIGN_OR_RETURN(const std::string after, ReadPageToken(request.page_token(), "ListWorkers"));
  LOUPE_ASSIGN_OR_RETURN(const std::vector<v1::Worker> workers, Workers());
  for (const v1::Worker& worker : workers) {
    if (worker.name() <= after) continue;
    if (response.workers_size() == size) {
      response.set_next_page_token(MakePageToken(response.workers(response.workers_size() - 1).name(), "ListWorkers"));
      break;
    }
    *response.add_workers() = worker;
  }
  return absl::OkStatus();
}

grpc::Status WorkerServiceImpl::Drain(grpc::ServerContext* context, const std::string& name, bool draining,
                                      v1::Worker& response) {
  return ServeChange(backend_, *context, Role::kAdmin, draining ? "drained" : "undrained", name, [&]() -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(const WorkerId id, WorkerId::FromName(name));
    LOUPE_RETURN_IF_ERROR(
        backend_.engine
            ->Call<bool>([=](Scheduler& scheduler, const Now& now, Effects& effects) -> absl::StatusOr<bool> {
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

grpc::Status WorkerServiceImpl::UploadArtifact(grpc::ServerContext* context,
                                               grpc::ServerReader<v1::UploadArtifactRequest>* reader,
                                               v1::UploadArtifactResponse* response) {
  return Serve(backend_, *context, Role::kWorker, [&] { return Upload(*reader, *response); });
}

grpc::Status WorkerServiceImpl::ListWorkers(grpc::ServerContext* context, const v1::ListWorkersRequest* request,
                                            v1::ListWorkersResponse* response) {
  return Serve(backend_, *context, Role::kViewer, [&] { return List(*request, *response); });
}

grpc::Status WorkerServiceImpl::DrainWorker(grpc::ServerContext* context, const v1::WorkerVerbRequest* request,
                                            v1::Worker* response) {
  return Drain(context, request->name(), true, *response);
}

grpc::Status WorkerServiceImpl::UndrainWorker(grpc::ServerContext* context, const v1::WorkerVerbRequest* request,
                                              v1::Worker* response) {
  return Drain(context, request->name(), false, *response);
}

}  // namespace loupe::coordinator
