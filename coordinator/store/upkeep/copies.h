// Copies of a data folder, made while its coordinator runs, and brought back.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/store/data_folder.h"

namespace loupe::coordinator::store::upkeep {

// A consistent copy of `data_folder` (database, and every artifact it refers to) in the new folder `to`, while the
// coordinator may go on. The database's copy passes integrity_check, every artifact its digest, and all of it is on the
// disk before this says OK. Until then it lies in `to`.partial, which is removed on an error; one that a killed backup
// left is replaced. Artifacts that `earlier` (another copy; may be empty) has are shared with it by hard links where
// the file system can: they are named by their content and never change. Access tokens are no part of a copy.
//
// ALREADY_EXISTS when `to` is there; RESOURCE_EXHAUSTED when its disk is full; DATA_LOSS when the data are damaged;
// errors of OpenDatabase.
absl::StatusOr<DataCounts> BackupData(const std::string& data_folder, const std::string& to,
                                      const std::string& earlier = "", const ProgressFn& progress = nullptr);

// Makes `data_folder` from a backup (or from the folder of a stopped coordinator), of this schema or an older one. The
// whole backup is checked before anything is written. The folder must be missing or empty: nothing is ever overwritten
// (ALREADY_EXISTS names what is in it; what a killed restore left is no obstacle). It is as it was before on an error;
// the database, without which a folder is no data folder, comes last. Other errors as BackupData's; FAILED_PRECONDITION
// when a coordinator has just started there.
absl::StatusOr<DataCounts> RestoreData(const std::string& from, const std::string& data_folder,
                                       const ProgressFn& progress = nullptr);

}  // namespace loupe::coordinator::store::upkeep
