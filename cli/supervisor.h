// Keeps a set of child processes running.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "cli/child_process.h"
#include "common/clock.h"

namespace loupe::cli {

// When a process that ended is started again: at once the first time, then after waits that double; a process that ran
// for a while starts afresh; one that keeps dying young is given up.
class RestartPolicy {
 public:
  static constexpr absl::Duration kFirstWait = absl::Seconds(1);
  static constexpr absl::Duration kLongestWait = absl::Minutes(1);
  // A process that lived this long is held to be sound.
  static constexpr absl::Duration kSoundLife = absl::Seconds(60);
  static constexpr int kMaxEarlyDeaths = 6;

  // The wait before the next start, or nullopt: give up.
  std::optional<absl::Duration> OnDeath(absl::Duration lifetime);

 private:
  int early_deaths_ = 0;
};

// Not thread-safe: all calls from one thread that outlives the children.
class Supervisor {
 public:
  // `say` gets one line per event (started, died, given up). `clock` must outlive this.
  Supervisor(const Clock& clock, std::function<void(const std::string&)> say) : clock_(clock), say_(std::move(say)) {}
  // Kills what still runs.
  ~Supervisor();
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  // Starts `command` under `name`; the error is ChildProcess::Start's. An essential child that is given up makes Tick
  // fail.
  absl::Status Add(std::string name, ChildCommand command, bool essential);

  // Notices deaths and starts what is due. Call a few times a second. Fails when an essential child was given up; the
  // sentence ends in the last line of its log.
  absl::Status Tick();

  // Waits until the child called `name` has written something to the file `path`, and returns that without blanks
  // around it. FAILED_PRECONDITION, with the last line of its log, when the child ends before that (it is not started
  // again); DEADLINE_EXCEEDED after `timeout`; CANCELLED as soon as `interrupted` returns true.
  absl::StatusOr<std::string> AwaitFile(const std::string& name, const std::string& path, absl::Duration timeout,
                                        const std::function<bool()>& interrupted);

  // What later starts of the child called `name` run; what runs now goes on.
  void SetCommand(const std::string& name, ChildCommand command);

  // Whether the child called `name` runs now.
  bool IsRunning(const std::string& name) const;

  // SIGTERM to all but the first added, which is stopped last (the others need it to say goodbye); SIGKILL to what is
  // left after `grace` for each of the two steps, or as soon as `hurry` returns true. Returns when all have ended.
  void Stop(absl::Duration grace, const std::function<bool()>& hurry);

 private:
  struct Child {
    std::string name;
    ChildCommand command;
    bool essential = false;
    RestartPolicy policy;
    std::optional<ChildProcess> process;
    absl::Duration started_at;
    std::optional<absl::Duration> due;  // of the next start; nullopt: none
  };

  absl::Status StartChild(Child& child);
  absl::Status OnDeath(Child& child, const ChildEnd& end);
  void StopChildren(const std::vector<Child*>& children, absl::Duration grace, const std::function<bool()>& hurry);

  const Clock& clock_;
  const std::function<void(const std::string&)> say_;
  std::vector<Child> children_;
};

// The last line of a text file that is not blank, or empty: what a program said before it ended.
std::string LastLogLine(const std::string& path);

}  // namespace loupe::cli
