// A sweep file on this machine, read, checked and planned.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/plan/plan.h"
#include "coordinator/plan/sweep_file.h"

namespace loupe::cli {

struct SweepInput {
  coordinator::plan::SweepFile file;  // its spec has absolute paths
  coordinator::plan::Plan plan;
};

// Reads `path` ("-" is standard input), makes relative paths absolute from the working directory and plans the sweep.
// Errors name the file, and line and column where there is one.
absl::StatusOr<SweepInput> ReadSweepInput(const std::string& path);

// A sentence for every folder or file that the plan's settings name and that is not on this machine: no error, since
// the workers may run elsewhere.
std::vector<std::string> MissingPathNotes(const coordinator::plan::Plan& plan);

}  // namespace loupe::cli
