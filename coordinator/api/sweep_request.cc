#include "coordinator/api/sweep_request.h"

#include <utility>

#include "common/error_details.h"
#include "common/status_macros.h"
#include "coordinator/plan/sweep_file.h"
#include "coordinator/plan_proto/spec_proto.h"
#include "fmt/format.h"

namespace loupe::coordinator::api {
namespace {

absl::Status WrongField(const std::string& field, const std::string& why) {
  return WithFieldViolations(absl::InvalidArgumentError(fmt::format("{}: {}", field, why)), {{field, why}});
}

// Makes the file's paths absolute.
absl::Status ResolvePaths(const std::string& folder, plan::SweepSpec& spec) {
  if (!folder.empty()) {
    if (!folder.starts_with('/')) {
      return WrongField("file.working_directory", fmt::format("expected an absolute path, not '{}'", folder));
    }
    plan::MakePathsAbsolute(spec, folder);
    return absl::OkStatus();
  }
  // Only what is relative depends on where it starts.
  plan::SweepSpec elsewhere = spec;
  plan::MakePathsAbsolute(spec, "/one");
  plan::MakePathsAbsolute(elsewhere, "/two");
  if (spec == elsewhere) return absl::OkStatus();
  return WrongField("file.working_directory",
                    "the file has relative paths: say from which folder, or make them absolute");
}

}  // namespace

absl::StatusOr<SweepRequest> ReadSweepRequest(const v1::CreateSweepRequest& request) {
  if (!request.has_file()) {
    LOUPE_ASSIGN_OR_RETURN(plan::SweepSpec spec, plan_proto::SpecFromProto(request.spec()));
    LOUPE_ASSIGN_OR_RETURN(plan::Plan plan, plan::Plan::Create(std::move(spec)));
    return SweepRequest{std::move(plan), request.sweep_id()};
  }
  if (request.has_spec()) return WrongField("file", "a request has a specification or a file, and not both");
  const std::string& name = request.file().file_name();
  LOUPE_ASSIGN_OR_RETURN(plan::SweepFile file,
                         plan::ParseSweepFile(request.file().text(), name.empty() ? "sweep" : name));
  LOUPE_RETURN_IF_ERROR(ResolvePaths(request.file().working_directory(), file.spec));
  absl::StatusOr<plan::Plan> plan = plan::Plan::Create(file.spec);
  if (!plan.ok()) return plan::LocateInFile(plan.status(), file);
  return SweepRequest{*std::move(plan), request.sweep_id().empty() ? file.sweep_id : request.sweep_id()};
}

}  // namespace loupe::coordinator::api
