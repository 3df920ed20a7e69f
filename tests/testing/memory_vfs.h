// A SQLite VFS in memory that can lose power, run out of space and fail: the disk of the simulator and of fault tests.
//
// A file has what was written and what is durable: xSync makes the first the second. Crash() keeps, as a disk would,
// what was synced and an arbitrary part of what was not.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <string>

namespace loupe::testing {

// Each instance registers itself with SQLite under a name of its own while it lives. One thread at a time.
class MemoryVfs {
 public:
  MemoryVfs();
  ~MemoryVfs();
  MemoryVfs(const MemoryVfs&) = delete;
  MemoryVfs& operator=(const MemoryVfs&) = delete;

  const std::string& name() const;

  // Power is lost: every connection must have been closed. Of unsynced writes an arbitrary subset, by `random`,
  // survives, the last of them perhaps torn.
  void Crash(std::mt19937_64& random);

  // Kinds of trouble, counted in operations that write or sync, from the next one on.
  enum class Fault { kNone, kFull, kIoError };
  // The n-th operation from now (1 is the next) fails; with `persistent` all after it too, until Heal.
  void FailAt(int64_t n, Fault fault, bool persistent);
  // From the n-th operation on nothing reaches the disk any more and everything fails: the moment of a crash. Thaw by
  // Crash.
  void FreezeAt(int64_t n);
  bool frozen() const;
  void Heal();
  // xSync reports success without doing anything: the bug that a power cut must bring to light.
  void IgnoreSyncs(bool ignore);
  // Operations so far.
  int64_t operations() const;

  // Whole-file access for tests: damage, truncation, fixtures. `path` as given to SQLite.
  std::string ReadFile(const std::string& path) const;
  void WriteFile(const std::string& path, std::string bytes);

  struct Disk;

 private:
  std::unique_ptr<Disk> disk_;
};

}  // namespace loupe::testing
