// What is logged while an attempt is worked on, for the attempt's own log.
//
// Deep in the tensor code nobody knows for which trial a warning is: a model store that reads its files again, a cache
// that is damaged. So the log itself finds out: a thread says for whom it works, and what it logs meanwhile goes to
// that attempt, too.
#pragma once

#include "worker/executor/attempt.h"

namespace loupe::worker::executor {

// From its making to its end, lines that this thread logs (spdlog's default logger, at the level that it has, info and
// above) are told to `observer`. One may be opened within another, of the same thread. `observer` may be null:
// nobody's.
class AttemptLogScope {
 public:
  explicit AttemptLogScope(AttemptObserver* observer);
  ~AttemptLogScope();
  AttemptLogScope(const AttemptLogScope&) = delete;
  AttemptLogScope& operator=(const AttemptLogScope&) = delete;

 private:
  AttemptObserver* const before_;
};

// Makes the default logger do so. Once in a process, after the logger has been set up and before other threads log.
void TellAttemptsWhatIsLogged();

}  // namespace loupe::worker::executor
