// Whether a data folder (or a copy of one) is sound.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/store/data_folder.h"

namespace loupe::coordinator::store::upkeep {

struct Finding {
  // What is wrong, and what is merely worth knowing.
  enum class Kind { kDamage, kNote };
  Kind kind = Kind::kDamage;
  std::string subject;  // "sweeps/a/trials/3", "artifact 0123…", "database"
  std::string problem;  // a sentence about the subject
  std::string advice;   // what to do
};

struct HealthReport {
  int schema_version = 0;
  DataCounts counts;
  std::vector<Finding> findings;
  // How many files, and bytes, RemoveOrphans would remove.
  int64_t orphans = 0;
  int64_t orphan_bytes = 0;

  // "subject: problem" of what is damage; empty for a sound folder.
  std::vector<std::string> Damage() const;
};

// Reads everything: SQLite's integrity_check and foreign keys; schema version; that trials, attempts, results and
// counters agree (a recount); that each artifact is there with the content that its digest names. An older schema and
// artifacts that no row refers to (uploads that were cut off, files of deleted sweeps) are notes. A coordinator may run
// meanwhile; an upload that is just under way then looks like one that was cut off. Of a file that does not pass
// integrity_check nothing more is read. Errors of OpenDatabase; CANCELLED.
absl::StatusOr<HealthReport> Examine(const std::string& data_folder, const ProgressFn& progress = nullptr);

// Removes the files of artifacts that no row refers to; how many. FAILED_PRECONDITION while a coordinator runs there,
// whose uploads might be among them, or when the database is damaged, which might have lost the rows.
absl::StatusOr<int64_t> RemoveOrphans(const std::string& data_folder);

}  // namespace loupe::coordinator::store::upkeep
