// What the exit code of `loupe` means. Part of the command's contract (docs/cli.md): scripts act on them.
#pragma once

namespace loupe::cli {

// Do not renumber.
enum ExitCode : int {
  kOk = 0,
  // Something failed that none of the others describes; the message says what.
  kFailed = 1,
  // The command line or an input file is wrong; nothing was done.
  kBadInput = 2,
  // No coordinator answers at the address.
  kUnreachable = 3,
  // The sweep has ended, but some of its trials have no result.
  kSweepIncomplete = 4,
  // 128 + SIGINT: interrupted by the user.
  kInterrupted = 130,
};

}  // namespace loupe::cli
