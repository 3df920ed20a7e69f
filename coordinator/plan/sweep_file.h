// Reading a sweep file (YAML) into a SweepSpec. Every key is listed in docs/sweep-file.md.
//
// The reader knows the file's shape; values are judged by Plan::Create. LocateInFile brings the plan's refusals back to
// the lines of the file, so that all problems of a file look the same: "quickstart.yaml:12:5: …".
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/plan/sweep_spec.h"
#include "coordinator/plan/yaml_tree.h"

namespace loupe::coordinator::plan {

struct SweepFile {
  std::string file_name;
  // From "name": a valid SweepId.
  std::string sweep_id;
  // As written: keys and levels not yet canonical; source_text is the whole file.
  SweepSpec spec;
  // Field of the spec, as Plan::Create's violations name it -> where it stands.
  std::map<std::string, FilePlace> places;
};

// A key of the file that is no setting ("name", "factors", "retry.backoff").
struct StructureKey {
  std::string key;
  std::string expects;
  std::string description;
};
const std::vector<StructureKey>& SweepFileStructure();

// INVALID_ARGUMENT: its message is one line per problem ("FILE:LINE:COLUMN: sentence") and its field violations hold
// the same, place and sentence apart. All problems of the file's shape are found in one go.
absl::StatusOr<SweepFile> ParseSweepFile(std::string_view text, std::string_view file_name);

// Turns Plan::Create's refusal (or the coordinator's) of `file.spec` into ParseSweepFile's form. A violation without a
// place (a missing key) gets the file's name alone. Other statuses come back as they are.
absl::Status LocateInFile(const absl::Status& status, const SweepFile& file);

// Makes every relative value of a path setting absolute, from `working_directory` (absolute), in fixed settings, levels
// and patterns; ".." and "." are resolved by name.
void MakePathsAbsolute(SweepSpec& spec, std::string_view working_directory);

}  // namespace loupe::coordinator::plan
