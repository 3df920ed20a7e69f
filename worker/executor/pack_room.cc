#include "worker/executor/pack_room.h"

#include <unistd.h>

#include <fstream>
#include <string>

#include "common/logging.h"

namespace loupe::worker::executor {
namespace {

// A line of a file of /proc, "VmHWM:   1234 kB", in bytes; 0 where there is none.
int64_t BytesIn(const std::string& path, const std::string& name) {
  std::ifstream file(path);
  std::string word;
  int64_t kilobytes = 0;
  while (file >> word) {
    if (word == name && file >> kilobytes) return kilobytes * 1024;
  }
  return 0;
}

}  // namespace

void PackRoom::BeforeFirst() {
  if (device_.is_cpu() && slots_ < most_) resident_before_ = BytesIn("/proc/self/status", "VmRSS:");
}

void PackRoom::AfterStep() {
  if (slots_ >= most_) return;
  // A machine whose memory is full ends processes. A trial needs no more than the first one's peak, and half of what is
  // free is left for the others.
  const int64_t peak = BytesIn("/proc/self/status", "VmHWM:");
  const int64_t free = BytesIn("/proc/meminfo", "MemAvailable:");
  const int64_t each = std::max<int64_t>(peak - resident_before_, 1 << 20);
  const int64_t more = free / 2 / each;
  most_ = static_cast<int32_t>(std::min<int64_t>(most_, 1 + more));
  slots_ = most_;
  LogInfo("trains up to {} trials together: one takes {} MB, {} MB are free", most_, each >> 20, free >> 20);
}

}  // namespace loupe::worker::executor
