#include "tests/testing/failing_disk.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace loupe::testing {
namespace {

DiskOrders* Orders() {
  static DiskOrders* const orders = []() -> DiskOrders* {
    const char* path = std::getenv("LOUPE_FAILING_DISK");
    const int fd = path == nullptr ? -1 : ::open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return nullptr;
    void* mapped = ::mmap(nullptr, sizeof(DiskOrders), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ::close(fd);
    return mapped == MAP_FAILED ? nullptr : static_cast<DiskOrders*>(mapped);
  }();
  return orders;
}

bool IsOurs(int fd) {
  static const char* const folder = std::getenv("LOUPE_FAILING_FOLDER");
  char link[64];
  char path[4096];
  std::snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t size = ::readlink(link, path, sizeof path - 1);
  return folder != nullptr && size > 0 && static_cast<size_t>(size) > std::strlen(folder) &&
         std::strncmp(path, folder, std::strlen(folder)) == 0;
}

// Whether the operation is to fail; errno is set then.
bool Fails(int fd) {
  DiskOrders* orders = Orders();
  if (orders == nullptr || !IsOurs(fd)) return false;
  ++orders->operations;
  int64_t left = orders->fail_in;
  while (left > 1 && !orders->fail_in.compare_exchange_weak(left, left - 1)) {
  }
  if (left != 1) return false;
  if (orders->failures.fetch_sub(1) <= 0) {
    orders->fail_in = 0;
    return false;
  }
  errno = orders->error;
  return true;
}

template <typename Function>
Function Next(const char* name) {
  return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

}  // namespace
}  // namespace loupe::testing

// In the places of the C library's.
extern "C" {

ssize_t write(int fd, const void* bytes, size_t size) {
  static const auto next = loupe::testing::Next<ssize_t (*)(int, const void*, size_t)>("write");
  return loupe::testing::Fails(fd) ? -1 : next(fd, bytes, size);
}
ssize_t pwrite(int fd, const void* bytes, size_t size, off_t at) {
  static const auto next = loupe::testing::Next<ssize_t (*)(int, const void*, size_t, off_t)>("pwrite");
  return loupe::testing::Fails(fd) ? -1 : next(fd, bytes, size, at);
}
ssize_t pwrite64(int fd, const void* bytes, size_t size, off64_t at) {
  static const auto next = loupe::testing::Next<ssize_t (*)(int, const void*, size_t, off64_t)>("pwrite64");
  return loupe::testing::Fails(fd) ? -1 : next(fd, bytes, size, at);
}
int fsync(int fd) {
  static const auto next = loupe::testing::Next<int (*)(int)>("fsync");
  return loupe::testing::Fails(fd) ? -1 : next(fd);
}
int fdatasync(int fd) {
  static const auto next = loupe::testing::Next<int (*)(int)>("fdatasync");
  return loupe::testing::Fails(fd) ? -1 : next(fd);
}
}
