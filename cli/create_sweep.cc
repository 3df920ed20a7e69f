#include "cli/create_sweep.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "cli/connect.h"
#include "cli/views.h"
#include "common/random_source.h"
#include "common/settings/settings.h"
#include "common/status_macros.h"
#include "common/text.h"
#include "coordinator/plan_proto/spec_proto.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "loupe/v1/sweep.grpc.pb.h"

namespace loupe::cli {
namespace {

using Stub = v1::SweepService::StubInterface;

// Settings that the file leaves out and that were something else by default when the sweep was made: the sweep goes on
// with those.
std::vector<std::string> ChangedDefaults(const coordinator::plan::Plan& plan, const settings::SettingDefaults& stored) {
  std::vector<std::string> changes;
  const settings::SettingDefaults& now = plan.spec().defaults;
  for (const settings::SettingRule& rule : settings::SettingRules()) {
    if (rule.since > std::min(stored.version, now.version) || stored.Of(rule) == now.Of(rule)) continue;
    if (!plan.ValuesOf(rule.key).empty()) continue;
    changes.push_back(fmt::format("{} {} (now {})", rule.key, stored.Of(rule), now.Of(rule)));
  }
  return changes;
}

// The stored sweep of that id, if it is of the same file as `plan`; ALREADY_EXISTS, with what to do, if it is not. The
// defaults of the program that made it are its own affair.
absl::StatusOr<v1::Sweep> SameSweep(const clients::rpc::Connection& connection, Stub& stub, const SweepId& id,
                                    const coordinator::plan::Plan& plan) {
  v1::GetSweepRequest request;
  request.set_name(id.name());
  LOUPE_ASSIGN_OR_RETURN(v1::Sweep sweep, Call(connection, stub, &Stub::GetSweep, request));
  LOUPE_ASSIGN_OR_RETURN(coordinator::plan::SweepSpec stored,
                         coordinator::plan_proto::StoredSpecFromProto(sweep.spec()));
  coordinator::plan::SweepSpec wanted = plan.spec();
  stored.source_text.clear();
  wanted.source_text.clear();
  const settings::SettingDefaults defaults = std::exchange(stored.defaults, {});
  wanted.defaults = {};
  if (stored == wanted) {
    const std::vector<std::string> changes = ChangedDefaults(plan, defaults);
    if (!changes.empty()) {
      fmt::print(stderr, "note: {} keeps the defaults that it was made with: {}\n", id.id(), fmt::join(changes, ", "));
    }
    return sweep;
  }
  return absl::AlreadyExistsError(fmt::format(
      "there is a sweep '{0}' already, from another file; give this one another name (--id), or remove that one with "
      "'loupe delete {0}'",
      id.id()));
}

}  // namespace

absl::StatusOr<v1::Sweep> CreateSweep(const clients::rpc::Connection& connection, const SweepId& id,
                                      const coordinator::plan::Plan& plan, const CreateSweepOptions& options) {
  const std::unique_ptr<Stub> stub = v1::SweepService::NewStub(connection.channel());
  v1::CreateSweepRequest request;
  request.set_sweep_id(id.id());
  *request.mutable_spec() = coordinator::plan_proto::SpecToProto(plan.spec());
  request.set_request_id(ToUuid4(SystemRandom().NextToken()));
  request.set_validate_only(options.validate_only);
  absl::StatusOr<v1::CreateSweepResponse> response = Call(connection, *stub, &Stub::CreateSweep, request);
  if (response.status().code() == absl::StatusCode::kAlreadyExists) {
    LOUPE_ASSIGN_OR_RETURN(v1::Sweep same, SameSweep(connection, *stub, id, plan));
    if (options.exist_ok) return same;
    return absl::AlreadyExistsError(fmt::format(
        "the sweep '{0}' has been submitted already; see 'loupe status {0}', or give --exist-ok to go on with it",
        id.id()));
  }
  LOUPE_RETURN_IF_ERROR(response.status());
  for (const std::string& note : response->plan().notes()) fmt::print(stderr, "note: {}\n", Printable(note));
  for (const v1::WaitingTrials& waiting : response->plan().waiting())
    fmt::print(stderr, "note: now {}\n", Printable(WaitingText(waiting)));
  if (!options.validate_only) return response->sweep();
  v1::Sweep planned;
  planned.set_name(id.name());
  planned.set_cell_count(response->plan().cells());
  planned.mutable_counts()->set_total(response->plan().trials());
  return planned;
}

}  // namespace loupe::cli
