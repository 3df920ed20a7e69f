#include "cli/running_attempts.h"

#include <utility>

#include "cli/failure.h"
#include "common/status_macros.h"
#include "loupe/v1/worker.grpc.pb.h"

namespace loupe::cli {

absl::StatusOr<google::protobuf::RepeatedPtrField<v1::RunningAttempt>> RunningAttemptsOf(
    const clients::rpc::Connection& connection, const std::string& name) {
  using WorkerStub = v1::WorkerService::StubInterface;
  const auto stub = v1::WorkerService::NewStub(connection.channel());
  google::protobuf::RepeatedPtrField<v1::RunningAttempt> found;
  LOUPE_RETURN_IF_ERROR(CallForPages(connection, static_cast<WorkerStub&>(*stub), &WorkerStub::ListWorkers,
                                     v1::ListWorkersRequest(), [&](v1::ListWorkersResponse& page) {
                                       for (v1::Worker& worker : *page.mutable_workers()) {
                                         for (v1::RunningAttempt& attempt : *worker.mutable_attempts()) {
                                           if (attempt.trial() != name && !attempt.trial().starts_with(name + "/"))
                                             continue;
                                           attempt.set_worker(worker.name());
                                           *found.Add() = std::move(attempt);
                                         }
                                       }
                                     }));
  return found;
}

}  // namespace loupe::cli
