// Whether a data folder still is what it was: files that somebody removed, replaced or left out of a copy must not
// become an empty start or a lost result without a word.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"

namespace loupe::coordinator::store {

// Of a folder that a coordinator is to be started on; its lock is held. FAILED_PRECONDITION, with what to do:
// - the database is missing or empty, and artifacts, tokens or an audit log say that there was one;
// - the last coordinator was killed, and the write-ahead log that held its last commits is gone;
// - the database names artifacts, and their folder is gone.
absl::Status CheckDataFolder(const std::string& folder);

// DATA/running: there while a coordinator runs, and after one that was killed. It says when the database itself was
// last written: what was committed since lies in the write-ahead log alone, and that log must be there at the next
// start. Written without a word on failures: it only serves to notice a loss.
class RunningMark {
 public:
  explicit RunningMark(std::string folder) : folder_(std::move(folder)) { Update(); }
  // After a clean stop: by then the log has become part of the database.
  ~RunningMark();
  RunningMark(const RunningMark&) = delete;
  RunningMark& operator=(const RunningMark&) = delete;

  // The database has just been written: after each checkpoint.
  void Update() const;

 private:
  const std::string folder_;
};

// One file by what it is, whatever is done to its name.
struct FileIdentity {
  dev_t device = 0;
  ino_t inode = 0;
  bool operator==(const FileIdentity&) const = default;
};
// Unset when there is no such file.
std::optional<FileIdentity> IdentityOf(const std::string& path);

}  // namespace loupe::coordinator::store
