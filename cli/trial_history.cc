#include "cli/trial_history.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "cli/connect.h"
#include "cli/cost_estimate.h"
#include "common/median.h"
#include "common/status_macros.h"
#include "coordinator/plan_proto/spec_proto.h"
#include "google/protobuf/util/time_util.h"
#include "loupe/v1/sweep.grpc.pb.h"
#include "loupe/v1/trial.grpc.pb.h"
#include "loupe/v1/worker.grpc.pb.h"

namespace loupe::cli {
namespace {

constexpr char kBaseKey[] = "base";

std::string BaseOf(const coordinator::plan::SweepSpec& spec) {
  const auto found = spec.settings.find(kBaseKey);
  return found == spec.settings.end() ? "" : found->second;
}

absl::StatusOr<v1::ListSweepsResponse> NewestSweeps(const clients::rpc::Connection& connection,
                                                    absl::Duration patience) {
  LOUPE_RETURN_IF_ERROR(connection.WaitUntilConnected(patience));
  const auto stub = v1::SweepService::NewStub(connection.channel());
  v1::ListSweepsRequest request;
  request.set_page_size(kHistorySweeps);
  return Call(connection, static_cast<v1::SweepService::StubInterface&>(*stub),
              &v1::SweepService::StubInterface::ListSweeps, request);
}

// Seconds per pass of the sweep's accepted trials, appended; none where the sweep has another base.
absl::Status AddSweep(const clients::rpc::Connection& connection, const std::string& name, const std::string& base,
                      std::vector<double>& seconds_per_pass) {
  const auto sweeps = v1::SweepService::NewStub(connection.channel());
  v1::GetSweepRequest get;
  get.set_name(name);
  LOUPE_ASSIGN_OR_RETURN(const v1::Sweep sweep, Call(connection, static_cast<v1::SweepService::StubInterface&>(*sweeps),
                                                     &v1::SweepService::StubInterface::GetSweep, get));
  LOUPE_ASSIGN_OR_RETURN(const coordinator::plan::SweepSpec spec,
                         coordinator::plan_proto::StoredSpecFromProto(sweep.spec()));
  if (BaseOf(spec) != base) return absl::OkStatus();
  LOUPE_ASSIGN_OR_RETURN(const coordinator::plan::Plan plan, coordinator::plan::Plan::Create(spec));
  const auto trials = v1::TrialService::NewStub(connection.channel());
  v1::ListTrialsRequest list;
  list.set_parent(name);
  list.set_page_size(kHistoryTrials);
  list.add_states(v1::Trial::SUCCEEDED);
  LOUPE_ASSIGN_OR_RETURN(const v1::ListTrialsResponse response,
                         Call(connection, static_cast<v1::TrialService::StubInterface&>(*trials),
                              &v1::TrialService::StubInterface::ListTrials, list));
  for (const v1::Trial& trial : response.trials()) {
    if (!trial.has_start_time() || !trial.has_end_time() || trial.cell_index() >= plan.cell_count()) continue;
    const auto took = google::protobuf::util::TimeUtil::DurationToNanoseconds(trial.end_time() - trial.start_time());
    if (took <= 0) continue;
    seconds_per_pass.push_back(static_cast<double>(took) * 1e-9 / NetworkPasses(plan.CellSettings(trial.cell_index())));
  }
  return absl::OkStatus();
}

absl::Status AddWorkersThatAreUp(const clients::rpc::Connection& connection, TrialHistory& history) {
  const auto stub = v1::WorkerService::NewStub(connection.channel());
  v1::ListWorkersRequest request;
  request.set_page_size(1000);
  LOUPE_ASSIGN_OR_RETURN(const v1::ListWorkersResponse response,
                         Call(connection, static_cast<v1::WorkerService::StubInterface&>(*stub),
                              &v1::WorkerService::StubInterface::ListWorkers, request));
  for (const v1::Worker& worker : response.workers()) {
    if (worker.state() != v1::Worker::IDLE && worker.state() != v1::Worker::BUSY) continue;
    ++history.workers;
    history.slots += worker.slots();
    const auto& half = worker.description().abilities().half_precisions();
    if (std::find(half.begin(), half.end(), "bf16") != half.end()) ++history.bf16_workers;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TrialHistory> ReadTrialHistory(const clients::rpc::Connection& connection,
                                              const coordinator::plan::Plan& plan, absl::Duration patience) {
  LOUPE_ASSIGN_OR_RETURN(const v1::ListSweepsResponse newest, NewestSweeps(connection, patience));
  TrialHistory history;
  const std::string base = BaseOf(plan.spec());
  std::vector<double> seconds_per_pass;
  for (const v1::Sweep& sweep : newest.sweeps()) {
    if (base.empty()) break;
    const size_t before = seconds_per_pass.size();
    const absl::Status added = AddSweep(connection, sweep.name(), base, seconds_per_pass);
    // A sweep that was deleted in between, or that another version has made, is no reason to know nothing.
    if (!added.ok() && !absl::IsNotFound(added) && !absl::IsInvalidArgument(added)) return added;
    if (seconds_per_pass.size() > before) ++history.sweeps;
  }
  history.trials = static_cast<int64_t>(seconds_per_pass.size());
  if (!seconds_per_pass.empty()) history.seconds_per_pass = Median(std::move(seconds_per_pass));
  LOUPE_RETURN_IF_ERROR(AddWorkersThatAreUp(connection, history));
  return history;
}

}  // namespace loupe::cli
