// Care of a data folder: copies of it, and whether it is sound.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace loupe::coordinator {

// A consistent copy of `data_folder` (database and every artifact it refers to) in the new folder `to`, while the coordinator
// may go on. The database's copy passes integrity_check and every artifact its digest before this says OK. On an error
// nothing is left at `to`. ALREADY_EXISTS when `to` is there. Artifacts that `earlier` (another copy; may be empty) has are
// shared with it by hard links where the file system can: they are named by their content and never change.
absl::Status BackupData(const std::string& data_folder, const std::string& to, const std::string& earlier = "");

// Makes `data_folder` from a backup. The folder must not hold a database (ALREADY_EXISTS): nothing is ever overwritten.
absl::Status RestoreData(const std::string& from, const std::string& data_folder);

// What is wrong, a sentence each; empty when all is well: SQLite's integrity_check and foreign keys, schema version, results
// that do not fit their trials' states, artifacts whose file is missing, changed, or referred to by no row.
absl::StatusOr<std::vector<std::string>> Examine(const std::string& data_folder);

}  // namespace loupe::coordinator
