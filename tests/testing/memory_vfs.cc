#include "tests/testing/memory_vfs.h"

#include <sqlite3.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <new>
#include <string_view>
#include <vector>

#include "fmt/format.h"

namespace loupe::testing {
namespace {

constexpr size_t kShmSlots = 8;

struct PendingWrite {
  int64_t offset = 0;
  std::string bytes;  // empty for a truncation to `offset`
  bool truncate = false;
};

struct Shm {
  std::vector<std::unique_ptr<char[]>> regions;
  std::array<int, kShmSlots> shared{};
  std::array<bool, kShmSlots> exclusive{};
  int users = 0;
};

struct Node {
  std::string data;
  std::string durable;
  std::vector<PendingWrite> pending;
  std::shared_ptr<Shm> shm;
  int shared_locks = 0;
  bool reserved = false;
  bool exclusive = false;
};

void ApplyWrite(std::string& data, const PendingWrite& write) {
  if (write.truncate) {
    data.resize(static_cast<size_t>(write.offset), '\0');
    return;
  }
  const size_t end = static_cast<size_t>(write.offset) + write.bytes.size();
  if (data.size() < end) data.resize(end, '\0');
  std::memcpy(data.data() + write.offset, write.bytes.data(), write.bytes.size());
}

}  // namespace

struct MemoryVfs::Disk {
  std::string name;
  sqlite3_vfs vfs{};
  std::map<std::string, std::shared_ptr<Node>> files;
  int64_t operations = 0;
  int64_t fail_at = -1;
  int64_t freeze_at = -1;
  Fault fault = Fault::kNone;
  bool persistent = false;
  bool ignore_syncs = false;
  bool frozen = false;

  // SQLITE_OK, or the code with which this operation fails.
  int NextOperation(int io_error) {
    ++operations;
    if (freeze_at >= 0 && operations >= freeze_at) frozen = true;
    if (frozen) return io_error;
    if (fault == Fault::kNone || fail_at < 0 || operations < fail_at) return SQLITE_OK;
    if (operations > fail_at && !persistent) return SQLITE_OK;
    return fault == Fault::kFull ? SQLITE_FULL : io_error;
  }
};

namespace {

struct File {
  sqlite3_file base;
  MemoryVfs::Disk* disk;
  std::shared_ptr<Node> node;
  std::string path;
  int lock = SQLITE_LOCK_NONE;
  bool has_shm = false;
  std::array<bool, kShmSlots> shared{};
  std::array<bool, kShmSlots> exclusive{};
};

File& Of(sqlite3_file* file) { return *reinterpret_cast<File*>(file); }

int Unlock(sqlite3_file* file, int level) {
  File& f = Of(file);
  if (f.lock <= level) return SQLITE_OK;
  if (f.lock == SQLITE_LOCK_EXCLUSIVE) f.node->exclusive = false;
  if (f.lock >= SQLITE_LOCK_RESERVED) f.node->reserved = false;
  if (level == SQLITE_LOCK_NONE) --f.node->shared_locks;
  f.lock = level;
  return SQLITE_OK;
}

int Lock(sqlite3_file* file, int level) {
  File& f = Of(file);
  Node& node = *f.node;
  if (f.lock >= level) return SQLITE_OK;
  if (f.lock == SQLITE_LOCK_NONE) {
    if (node.exclusive) return SQLITE_BUSY;
    ++node.shared_locks;
    f.lock = SQLITE_LOCK_SHARED;
  }
  if (level >= SQLITE_LOCK_RESERVED && f.lock < SQLITE_LOCK_RESERVED) {
    if (node.reserved) return SQLITE_BUSY;
    node.reserved = true;
    f.lock = SQLITE_LOCK_RESERVED;
  }
  if (level == SQLITE_LOCK_EXCLUSIVE) {
    if (node.shared_locks > 1) return SQLITE_BUSY;
    node.exclusive = true;
    f.lock = SQLITE_LOCK_EXCLUSIVE;
  }
  return SQLITE_OK;
}

int ShmUnmap(sqlite3_file* file, int) {
  File& f = Of(file);
  if (!f.has_shm) return SQLITE_OK;
  Shm& shm = *f.node->shm;
  for (size_t i = 0; i < kShmSlots; ++i) {
    if (f.shared[i]) --shm.shared[i];
    if (f.exclusive[i]) shm.exclusive[i] = false;
    f.shared[i] = f.exclusive[i] = false;
  }
  f.has_shm = false;
  if (--shm.users == 0) f.node->shm.reset();
  return SQLITE_OK;
}

int Close(sqlite3_file* file) {
  File& f = Of(file);
  ShmUnmap(file, 0);
  Unlock(file, SQLITE_LOCK_NONE);
  f.~File();
  return SQLITE_OK;
}

int Read(sqlite3_file* file, void* out, int amount, sqlite3_int64 offset) {
  const std::string& data = Of(file).node->data;
  const auto at = static_cast<size_t>(offset);
  const auto wanted = static_cast<size_t>(static_cast<unsigned>(amount));
  const std::string_view found = at < data.size() ? std::string_view(data).substr(at, wanted) : std::string_view();
  std::copy(found.begin(), found.end(), static_cast<char*>(out));
  if (found.size() == wanted) return SQLITE_OK;
  std::fill_n(static_cast<char*>(out) + found.size(), wanted - found.size(), '\0');
  return SQLITE_IOERR_SHORT_READ;
}

int Record(File& f, PendingWrite write, int io_error) {
  if (const int failed = f.disk->NextOperation(io_error); failed != SQLITE_OK) return failed;
  ApplyWrite(f.node->data, write);
  f.node->pending.push_back(std::move(write));
  return SQLITE_OK;
}

int Write(sqlite3_file* file, const void* bytes, int amount, sqlite3_int64 offset) {
  return Record(Of(file), {offset, std::string(static_cast<const char*>(bytes), static_cast<size_t>(amount)), false},
                SQLITE_IOERR_WRITE);
}

int Truncate(sqlite3_file* file, sqlite3_int64 size) {
  return Record(Of(file), {size, "", true}, SQLITE_IOERR_TRUNCATE);
}

int Sync(sqlite3_file* file, int) {
  File& f = Of(file);
  if (const int failed = f.disk->NextOperation(SQLITE_IOERR_FSYNC); failed != SQLITE_OK) return failed;
  if (f.disk->ignore_syncs) return SQLITE_OK;
  for (const PendingWrite& write : f.node->pending) ApplyWrite(f.node->durable, write);
  f.node->pending.clear();
  return SQLITE_OK;
}

int FileSize(sqlite3_file* file, sqlite3_int64* size) {
  *size = static_cast<sqlite3_int64>(Of(file).node->data.size());
  return SQLITE_OK;
}

int CheckReserved(sqlite3_file* file, int* result) {
  *result = Of(file).node->reserved ? 1 : 0;
  return SQLITE_OK;
}

int FileControl(sqlite3_file*, int, void*) { return SQLITE_NOTFOUND; }
int SectorSize(sqlite3_file*) { return 512; }
int DeviceCharacteristics(sqlite3_file*) { return 0; }

int ShmMap(sqlite3_file* file, int region, int size, int extend, void volatile** out) {
  File& f = Of(file);
  if (!f.has_shm) {
    if (!f.node->shm) f.node->shm = std::make_shared<Shm>();
    ++f.node->shm->users;
    f.has_shm = true;
  }
  auto& regions = f.node->shm->regions;
  while (regions.size() <= static_cast<size_t>(region)) {
    if (extend == 0) {
      *out = nullptr;
      return SQLITE_OK;
    }
    regions.push_back(std::make_unique<char[]>(static_cast<size_t>(size)));
  }
  *out = regions[static_cast<size_t>(region)].get();
  return SQLITE_OK;
}

int ShmLock(sqlite3_file* file, int offset, int count, int flags) {
  File& f = Of(file);
  Shm& shm = *f.node->shm;
  const auto first = static_cast<size_t>(offset);
  const size_t last = first + static_cast<size_t>(count);
  for (size_t i = first; i < last; ++i) {
    if ((flags & SQLITE_SHM_LOCK) == 0) continue;
    const int others = shm.shared[i] - (f.shared[i] ? 1 : 0);
    if (shm.exclusive[i] && !f.exclusive[i]) return SQLITE_BUSY;
    if ((flags & SQLITE_SHM_EXCLUSIVE) != 0 && others > 0) return SQLITE_BUSY;
  }
  for (size_t i = first; i < last; ++i) {
    if ((flags & SQLITE_SHM_UNLOCK) != 0) {
      if (f.shared[i]) --shm.shared[i];
      if (f.exclusive[i]) shm.exclusive[i] = false;
      f.shared[i] = f.exclusive[i] = false;
    } else if ((flags & SQLITE_SHM_SHARED) != 0) {
      if (!f.shared[i]) ++shm.shared[i];
      f.shared[i] = true;
    } else {
      shm.exclusive[i] = f.exclusive[i] = true;
    }
  }
  return SQLITE_OK;
}

void ShmBarrier(sqlite3_file*) {}

constexpr sqlite3_io_methods kMethods = {2,
                                         Close,
                                         Read,
                                         Write,
                                         Truncate,
                                         Sync,
                                         FileSize,
                                         Lock,
                                         Unlock,
                                         CheckReserved,
                                         FileControl,
                                         SectorSize,
                                         DeviceCharacteristics,
                                         ShmMap,
                                         ShmLock,
                                         ShmBarrier,
                                         ShmUnmap,
                                         nullptr,
                                         nullptr};

MemoryVfs::Disk& DiskOf(sqlite3_vfs* vfs) { return *static_cast<MemoryVfs::Disk*>(vfs->pAppData); }

int Open(sqlite3_vfs* vfs, const char* path, sqlite3_file* file, int flags, int* out_flags) {
  MemoryVfs::Disk& disk = DiskOf(vfs);
  file->pMethods = nullptr;
  const std::string name = path == nullptr ? fmt::format("temporary-{}", disk.operations) : path;
  auto found = disk.files.find(name);
  if (found == disk.files.end()) {
    if ((flags & SQLITE_OPEN_CREATE) == 0) return SQLITE_CANTOPEN;
    found = disk.files.emplace(name, std::make_shared<Node>()).first;
  }
  File* f = new (file) File{};
  f->base.pMethods = &kMethods;
  f->disk = &disk;
  f->node = found->second;
  f->path = name;
  if (out_flags != nullptr) *out_flags = flags;
  return SQLITE_OK;
}

int Delete(sqlite3_vfs* vfs, const char* path, int) {
  MemoryVfs::Disk& disk = DiskOf(vfs);
  if (const int failed = disk.NextOperation(SQLITE_IOERR_DELETE); failed != SQLITE_OK) return failed;
  return disk.files.erase(path) > 0 ? SQLITE_OK : SQLITE_IOERR_DELETE_NOENT;
}

int Access(sqlite3_vfs* vfs, const char* path, int, int* result) {
  *result = DiskOf(vfs).files.contains(path) ? 1 : 0;
  return SQLITE_OK;
}

int FullPathname(sqlite3_vfs*, const char* path, int size, char* out) {
  sqlite3_snprintf(size, out, "%s", path);
  return SQLITE_OK;
}

// Salts of the WAL only; the simulator stays replayable.
int Randomness(sqlite3_vfs* vfs, int size, char* out) {
  std::mt19937_64 engine(static_cast<uint64_t>(DiskOf(vfs).operations));
  for (int i = 0; i < size; ++i) out[i] = static_cast<char>(engine());
  return size;
}

int Sleep(sqlite3_vfs*, int microseconds) { return microseconds; }

int CurrentTime(sqlite3_vfs*, sqlite3_int64* out) {
  *out = 210866760000000;  // some Julian day in milliseconds
  return SQLITE_OK;
}

std::atomic<int> instances{0};

}  // namespace

MemoryVfs::MemoryVfs() : disk_(std::make_unique<Disk>()) {
  disk_->name = fmt::format("loupe-memory-{}", ++instances);
  sqlite3_initialize();
  sqlite3_vfs& vfs = disk_->vfs;
  vfs.iVersion = 2;
  vfs.szOsFile = sizeof(File);
  vfs.mxPathname = 512;
  vfs.zName = disk_->name.c_str();
  vfs.pAppData = disk_.get();
  vfs.xOpen = Open;
  vfs.xDelete = Delete;
  vfs.xAccess = Access;
  vfs.xFullPathname = FullPathname;
  vfs.xRandomness = Randomness;
  vfs.xSleep = Sleep;
  vfs.xCurrentTimeInt64 = CurrentTime;
  if (sqlite3_vfs_register(&vfs, 0) != SQLITE_OK) std::abort();
}

MemoryVfs::~MemoryVfs() { sqlite3_vfs_unregister(&disk_->vfs); }

const std::string& MemoryVfs::name() const { return disk_->name; }

void MemoryVfs::Crash(std::mt19937_64& random) {
  for (auto& [path, node] : disk_->files) {
    // In order or not: a disk's cache writes back as it likes.
    for (PendingWrite& write : node->pending) {
      const uint64_t fate = random() % 4;
      if (fate == 0) continue;
      if (fate == 1 && !write.truncate && write.bytes.size() > 1) write.bytes.resize(random() % write.bytes.size());
      if (write.truncate || !write.bytes.empty()) ApplyWrite(node->durable, write);
    }
    node->pending.clear();
    node->data = node->durable;
    node->shm.reset();
    node->shared_locks = 0;
    node->reserved = node->exclusive = false;
  }
  Heal();
}

void MemoryVfs::FailAt(int64_t n, Fault fault, bool persistent) {
  disk_->fail_at = disk_->operations + n;
  disk_->fault = fault;
  disk_->persistent = persistent;
}

void MemoryVfs::FreezeAt(int64_t n) { disk_->freeze_at = disk_->operations + n; }
bool MemoryVfs::frozen() const { return disk_->frozen; }

void MemoryVfs::Heal() {
  disk_->fail_at = disk_->freeze_at = -1;
  disk_->fault = Fault::kNone;
  disk_->frozen = false;
}

void MemoryVfs::IgnoreSyncs(bool ignore) { disk_->ignore_syncs = ignore; }
int64_t MemoryVfs::operations() const { return disk_->operations; }

std::string MemoryVfs::ReadFile(const std::string& path) const {
  const auto found = disk_->files.find(path);
  return found == disk_->files.end() ? std::string() : found->second->data;
}

void MemoryVfs::WriteFile(const std::string& path, std::string bytes) {
  auto node = std::make_shared<Node>();
  node->durable = bytes;
  node->data = std::move(bytes);
  disk_->files[path] = std::move(node);
}

}  // namespace loupe::testing
