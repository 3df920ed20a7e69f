#include "cli/sweep_name.h"

#include "common/ids.h"
#include "common/status_macros.h"

namespace loupe::cli {

absl::StatusOr<std::string> SweepName(std::string_view text) {
  const absl::StatusOr<SweepId> id = text.starts_with("sweeps/") ? SweepId::FromName(text) : SweepId::FromId(text);
  if (!id.ok()) return id.status();
  return id->name();
}

absl::StatusOr<std::string> TrialName(std::string_view sweep, int64_t index) {
  LOUPE_ASSIGN_OR_RETURN(const std::string name, SweepName(sweep));
  LOUPE_ASSIGN_OR_RETURN(SweepId id, SweepId::FromName(name));
  return TrialId(std::move(id), index).name();
}

absl::StatusOr<std::string> WorkerName(std::string_view text) {
  const absl::StatusOr<WorkerId> id = text.starts_with("workers/") ? WorkerId::FromName(text) : WorkerId::FromId(text);
  if (!id.ok()) return id.status();
  return id->name();
}

}  // namespace loupe::cli
