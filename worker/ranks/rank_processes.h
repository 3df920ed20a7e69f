// The processes of a trial's other ranks, as rank 0 starts and watches them.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace loupe::worker::ranks {

// Starts `program` with these arguments, once for each; ends them all when it goes. They must be made to end by
// themselves when this process dies (EndWithParent): a worker may be killed. Not thread-safe.
class RankProcesses {
 public:
  // Messages number them from `first_rank`. Throws std::runtime_error when one cannot be started.
  RankProcesses(const std::string& program, const std::vector<std::vector<std::string>>& arguments, int first_rank = 1);
  ~RankProcesses();
  RankProcesses(const RankProcesses&) = delete;
  RankProcesses& operator=(const RankProcesses&) = delete;

  // "rank 1 was ended by signal 9 (Killed)"; empty while all run.
  std::string WhyEnded();

 private:
  void KillAll();

  struct Process {
    pid_t id = -1;  // -1: it has ended
    std::string end;
  };
  const int first_rank_;
  std::vector<Process> processes_;
};

// In such a process: it ends when `parent` does, and leaves the signals that end a program (a terminal sends them to
// all) to the parent, which ends it in its own time.
void EndWithParent(pid_t parent);

}  // namespace loupe::worker::ranks
