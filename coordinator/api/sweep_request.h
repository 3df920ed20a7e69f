// What a CreateSweepRequest asks for, as a plan: of a specification, or of a sweep file's text.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "coordinator/plan/plan.h"
#include "loupe/v1/sweep.pb.h"

namespace loupe::coordinator::api {

struct SweepRequest {
  plan::Plan plan;
  // The request's id, or else the file's name; empty where neither says one.
  std::string sweep_id;
};

// INVALID_ARGUMENT with a violation per problem: fields of the specification, or places in the file
// ("sweep.yaml:12:5"). A file with relative paths and no folder that they start from is refused: they would mean
// something else on every worker.
absl::StatusOr<SweepRequest> ReadSweepRequest(const v1::CreateSweepRequest& request);

}  // namespace loupe::coordinator::api
