#include "coordinator/api/sweep_request.h"

#include <utility>

#include "common/error_details.h"
#include "common/status_macros.h"
#include "coordinator/plan/sweep_file.h"
#include "coordinator/plan_proto/spec_proto.h"
#include "fmt/format.h"

namespace loupe::coordinator {
namespace {

absl::Status WrongField(const std::string& field, const std::string& why) {
  return WithFieldViolations(absl::InvalidArgumentError(fmt::format("{}: {}", field, why)), {{field, why}});
}

// Makes the file's paths absolute.
absl::Status ResolvePaths(const std::string& folder, SweepSpec& spec) {
  if (!folder.empty()) {
    if (!folder.starts_with('/')) {
      return WrongField("file.working_directory", fmt::format("expected an absolute path, not '{}'", folder));
    }
    MakePathsAbsolute(spec, folder);
    return absl::OkStatus();
  }
  // Only what is relative depends on where it starts.
  SweepSpec elsewhere = spec;
  MakePathsAbsolute(spec, "/one");
  MakePathsAbsolute(elsewhere, "/two");
  if (spec == elsewhere) return absl::OkStatus();
  return WrongField("file.working_directory",
                    "the file has relative paths: say from which folder, or make them absolute");
}

}  // namespace

absl::StatusOr<SweepRequest> ReadSweepRequest(const v1::CreateSweepRequest& request) {
  if (!request.has_file()) {
    LOUPE_ASSIGN_OR_RETURN(SweepSpec spec, SpecFromProto(request.spec()));
    LOUPE_ASSIGN_OR_RETURN(Plan plan, Plan::Create(std::move(spec)));
    return SweepRequest{std::move(plan), request.sweep_id()};
  }
  if (request.has_spec()) return WrongField("file", "a request has a specification or a file, and not both");
  const std::string& name = request.file().file_name();
  LOUPE_ASSIGN_OR_RETURN(SweepFile file, ParseSweepFile(request.file().text(), name.empty() ? "sweep" : name));
  LOUPE_RETURN_IF_ERROR(ResolvePaths(request.file().working_directory(), file.spec));
  absl::StatusOr<Plan> plan = Plan::Create(file.spec);
  if (!plan.ok()) return LocateInFile(plan.status(), file);
  return SweepRequest{*std::move(plan), request.sweep_id().empty() ? file.sweep_id : request.sweep_id()};
}

}  // namespace loupe::coordinator
