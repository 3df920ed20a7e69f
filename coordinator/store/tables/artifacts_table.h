// Table `artifacts`: what attempts handed over, by the content's digest; the bytes lie in the artifact folder.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/scheduler/effects.h"
#include "coordinator/store/sqlite_db.h"
#include "coordinator/store/store_reader.h"

namespace loupe::coordinator::store::artifacts_table {

// A second artifact of the same name in the same attempt replaces the first.
absl::Status Upsert(SqliteDb& db, const scheduler::RecordArtifact& record);

absl::StatusOr<std::vector<scheduler::ArtifactRecord>> ListOfLatest(SqliteDb& db, scheduler::TrialKey trial);
absl::StatusOr<scheduler::ArtifactRecord> Get(SqliteDb& db, scheduler::TrialKey trial, int64_t epoch,
                                              const std::string& name);
absl::StatusOr<std::set<std::string>> Digests(SqliteDb& db);
// Digest of the artifact `name` of each accepted result that has it, by trial.
absl::Status ForEachAccepted(SqliteDb& db, scheduler::SweepKey sweep, const std::string& name,
                             const std::function<void(int64_t index, std::string sha256)>& fn);
// Bytes of what each accepted result trained (its .safetensors files), by trial.
absl::Status ForEachWeightFile(SqliteDb& db, scheduler::SweepKey sweep,
                               const std::function<void(int64_t index, int64_t bytes)>& fn);

}  // namespace loupe::coordinator::store::artifacts_table
