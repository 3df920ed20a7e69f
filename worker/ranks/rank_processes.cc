#include "worker/ranks/rank_processes.h"

#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <stdexcept>

#include "common/program_start.h"
#include "fmt/format.h"

namespace loupe::worker::ranks {
namespace {

std::string HowItEnded(int rank, int status) {
  if (WIFSIGNALED(status))
    return fmt::format("rank {} was ended by signal {} ({})", rank, WTERMSIG(status), strsignal(WTERMSIG(status)));
  return fmt::format("rank {} ended with exit code {} (its log says why)", rank, WEXITSTATUS(status));
}

}  // namespace

RankProcesses::RankProcesses(const std::string& program, const std::vector<std::vector<std::string>>& arguments,
                             int first_rank)
    : first_rank_(first_rank) {
  for (const std::vector<std::string>& own : arguments) {
    std::vector<std::string> words{program};
    words.insert(words.end(), own.begin(), own.end());
    const std::vector<char*> argv = ArgumentsOf(words);
    pid_t id = -1;
    // Not fork: this process has LibTorch's threads.
    if (const int error = posix_spawn(&id, program.c_str(), nullptr, nullptr, argv.data(), environ); error != 0) {
      KillAll();
      throw std::runtime_error(fmt::format("rank {}: {} cannot be started ({})",
                                           first_rank_ + static_cast<int>(processes_.size()), program,
                                           strerror(error)));
    }
    processes_.push_back({id, ""});
  }
}

RankProcesses::~RankProcesses() { KillAll(); }

// They write nothing that outlives them.
void RankProcesses::KillAll() {
  for (Process& process : processes_) {
    if (process.id == -1) continue;
    ::kill(process.id, SIGKILL);
    int status = 0;
    while (::waitpid(process.id, &status, 0) == -1 && errno == EINTR) {
    }
    process.id = -1;
  }
}

std::string RankProcesses::WhyEnded() {
  std::string first;
  for (size_t i = 0; i < processes_.size(); ++i) {
    Process& process = processes_[i];
    int status = 0;
    if (process.id != -1 && ::waitpid(process.id, &status, WNOHANG) == process.id) {
      process = {-1, HowItEnded(first_rank_ + static_cast<int>(i), status)};
    }
    if (first.empty()) first = process.end;
  }
  return first;
}

void EndWithParent(pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  // It may have gone before that.
  if (::getppid() != parent) std::_Exit(1);
  ::signal(SIGINT, SIG_IGN);
  ::signal(SIGTERM, SIG_IGN);
}

}  // namespace loupe::worker::ranks
