#include "coordinator/store/upkeep/snapshots.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "common/clock.h"
#include "common/guarded.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "coordinator/store/upkeep/copies.h"
#include "fmt/format.h"

namespace loupe::coordinator::store::upkeep {
namespace {

constexpr char kNameFormat[] = "loupe-%E4Y%m%dT%H%M%SZ";

std::string SnapshotName(absl::Time time) { return absl::FormatTime(kNameFormat, time, absl::UTCTimeZone()); }

// Nothing unless `name` is exactly what SnapshotName makes.
std::optional<absl::Time> TimeOfName(const std::string& name) {
  absl::Time time;
  std::string error;
  if (!absl::ParseTime(kNameFormat, name, absl::UTCTimeZone(), &time, &error) || SnapshotName(time) != name)
    return std::nullopt;
  return time;
}

// A snapshot that a kill cut off: the next one has another name, and would leave it lying.
void RemoveCutOff(const std::string& folder) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::filesystem::path name = entry.path().filename();
    if (name.extension() != ".partial" || !TimeOfName(name.stem().string())) continue;
    std::filesystem::remove_all(entry.path(), error);
    if (error) LogWarning("'{}', which was cut off, cannot be removed: {}", entry.path().string(), error.message());
  }
}

}  // namespace

absl::StatusOr<absl::Duration> ParseSnapshotInterval(const std::string& text) {
  absl::Duration interval;
  if (absl::ParseDuration(text, &interval) && interval >= absl::Seconds(1)) return interval;
  return absl::InvalidArgumentError(
      fmt::format("--backup-every is '{}': expected a time of at least a second, such as 30m or 1h", text));
}

absl::StatusOr<std::vector<absl::Time>> ListSnapshots(const std::string& folder) {
  std::vector<absl::Time> times;
  std::error_code error;
  if (!std::filesystem::exists(folder, error)) return times;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    std::error_code ignored;
    if (!entry.is_directory(ignored) || entry.is_symlink(ignored)) continue;
    if (const auto time = TimeOfName(entry.path().filename().string())) times.push_back(*time);
  }
  if (error) return absl::ErrnoToStatus(error.value(), fmt::format("cannot list the snapshots in '{}'", folder));
  std::sort(times.begin(), times.end());
  return times;
}

absl::Status TakeSnapshot(const SnapshotOptions& options, absl::Time now, const ProgressFn& progress) {
  LOUPE_ASSIGN_OR_RETURN(std::vector<absl::Time> taken, ListSnapshots(options.to));
  std::error_code error;
  std::filesystem::create_directories(options.to, error);
  if (error) return absl::ErrnoToStatus(error.value(), fmt::format("cannot make the folder '{}'", options.to));
  RemoveCutOff(options.to);
  const auto path = [&](absl::Time time) { return fmt::format("{}/{}", options.to, SnapshotName(time)); };
  LOUPE_RETURN_IF_ERROR(
      BackupData(options.data_folder, path(now), taken.empty() ? std::string() : path(taken.back()), progress)
          .status());
  taken.push_back(now);
  std::sort(taken.begin(), taken.end());
  const size_t keep = static_cast<size_t>(std::max(1, options.keep));
  for (size_t i = 0; i + keep < taken.size(); ++i) {
    std::filesystem::remove_all(path(taken[i]), error);
    if (error) LogWarning("the old snapshot '{}' cannot be removed: {}", path(taken[i]), error.message());
  }
  return absl::OkStatus();
}

absl::Time NextSnapshotTime(const SnapshotOptions& options, const std::vector<absl::Time>& taken, absl::Time now) {
  // A latest one from the future is a civil clock that was set back: it must not stop the snapshots.
  if (taken.empty() || taken.back() > now) return now;
  return taken.back() + options.every;
}

SnapshotThread::SnapshotThread(SnapshotOptions options) : options_(std::move(options)), thread_([this] { Loop(); }) {}

SnapshotThread::~SnapshotThread() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void SnapshotThread::Loop() {
  const Clock& clock = SystemClock();
  std::unique_lock<std::mutex> lock(mutex_);
  absl::Duration wait;
  while (!changed_.wait_for(lock, absl::ToChronoNanoseconds(wait), [this] { return stopping_.load(); })) {
    lock.unlock();
    absl::Duration due = options_.every / 10;
    GuardedTurn("taking snapshots", [&] { due = Turn(clock.WallNow()); });
    // Looked at again from time to time: civil time may jump.
    wait = std::clamp(due, absl::Milliseconds(10), absl::Minutes(10));
    lock.lock();
  }
}

absl::Duration SnapshotThread::Turn(absl::Time now) {
  absl::StatusOr<std::vector<absl::Time>> taken = ListSnapshots(options_.to);
  absl::Status status = taken.status();
  absl::Duration due = status.ok() ? NextSnapshotTime(options_, *taken, now) - now : options_.every / 10;
  if (status.ok() && due <= absl::ZeroDuration()) {
    status = TakeSnapshot(options_, now, [this](const WorkProgress&) { return !stopping_; });
    due = status.ok() ? options_.every : options_.every / 10;
    if (status.ok()) LogInfo("snapshot '{}/{}'", options_.to, SnapshotName(now));
  }
  if (!status.ok() && !stopping_) LogError("no snapshot could be made: {}", std::string(status.message()));
  return due;
}

}  // namespace loupe::coordinator::store::upkeep
