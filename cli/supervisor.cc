#include "cli/supervisor.h"

#include <poll.h>
#include <signal.h>

#include <algorithm>
#include <fstream>

#include "absl/strings/ascii.h"
#include "common/atomic_file.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::cli {
namespace {

void Pause(absl::Duration duration) { poll(nullptr, 0, static_cast<int>(absl::ToInt64Milliseconds(duration))); }

}  // namespace

std::optional<absl::Duration> RestartPolicy::OnDeath(absl::Duration lifetime) {
  early_deaths_ = lifetime >= kSoundLife ? 0 : early_deaths_ + 1;
  if (early_deaths_ >= kMaxEarlyDeaths) return std::nullopt;
  if (early_deaths_ == 0) return absl::ZeroDuration();
  return std::min(kLongestWait, kFirstWait * (1 << (early_deaths_ - 1)));
}

std::string LastLogLine(const std::string& path) {
  std::ifstream file(path, std::ios::ate | std::ios::binary);
  if (!file) return "";
  // The end is enough, however long the log has grown.
  const std::streamoff size = file.tellg();
  file.seekg(std::max<std::streamoff>(0, size - 4096));
  std::string last;
  for (std::string line; std::getline(file, line);) {
    absl::StripAsciiWhitespace(&line);
    if (!line.empty()) last = line;
  }
  return last;
}

Supervisor::~Supervisor() {
  for (Child& child : children_) {
    if (child.process.has_value()) child.process->Signal(SIGKILL);
  }
  for (Child& child : children_) {
    while (child.process.has_value() && !child.process->Poll().has_value()) Pause(absl::Milliseconds(10));
  }
}

absl::Status Supervisor::StartChild(Child& child) {
  LOUPE_ASSIGN_OR_RETURN(child.process, ChildProcess::Start(child.command));
  child.started_at = clock_.MonotonicNow();
  child.due.reset();
  return absl::OkStatus();
}

absl::Status Supervisor::Add(std::string name, ChildCommand command, bool essential) {
  Child child{.name = std::move(name), .command = std::move(command), .essential = essential};
  LOUPE_RETURN_IF_ERROR(StartChild(child));
  children_.push_back(std::move(child));
  return absl::OkStatus();
}

absl::Status Supervisor::OnDeath(Child& child, const ChildEnd& end) {
  child.process.reset();
  const std::optional<absl::Duration> wait = child.policy.OnDeath(clock_.MonotonicNow() - child.started_at);
  if (wait.has_value()) {
    child.due = clock_.MonotonicNow() + *wait;
    say_(fmt::format("{} ended ({}); starting it again{}", child.name, end.Text(),
                     *wait > absl::ZeroDuration() ? fmt::format(" in {}", absl::FormatDuration(*wait)) : ""));
    return absl::OkStatus();
  }
  const std::string message =
      fmt::format("{} keeps ending ({}) and is given up; its log '{}' says last: {}", child.name, end.Text(),
                  child.command.log_path, LastLogLine(child.command.log_path));
  if (child.essential) return absl::AbortedError(message);
  say_(message);
  return absl::OkStatus();
}

absl::Status Supervisor::Tick() {
  for (Child& child : children_) {
    if (child.process.has_value()) {
      if (const std::optional<ChildEnd> end = child.process->Poll(); end.has_value())
        LOUPE_RETURN_IF_ERROR(OnDeath(child, *end));
    } else if (child.due.has_value() && clock_.MonotonicNow() >= *child.due) {
      LOUPE_RETURN_IF_ERROR(StartChild(child));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Supervisor::AwaitFile(const std::string& name, const std::string& path,
                                                  absl::Duration timeout, const std::function<bool()>& interrupted) {
  const auto child =
      std::find_if(children_.begin(), children_.end(), [&](const Child& candidate) { return candidate.name == name; });
  const absl::Duration deadline = clock_.MonotonicNow() + timeout;
  while (clock_.MonotonicNow() < deadline) {
    if (interrupted()) return absl::CancelledError("interrupted");
    const absl::StatusOr<std::string> text = ReadFile(path);
    if (text.ok() && !text->empty()) return std::string(absl::StripAsciiWhitespace(*text));
    if (const std::optional<ChildEnd> end = child->process->Poll(); end.has_value()) {
      child->process.reset();
      return absl::FailedPreconditionError(
          fmt::format("the {} did not start ({}): {}", name, end->Text(), LastLogLine(child->command.log_path)));
    }
    Pause(absl::Milliseconds(20));
  }
  return absl::DeadlineExceededError(fmt::format("the {} is not ready after {}; its log is '{}'", name,
                                                 absl::FormatDuration(timeout), child->command.log_path));
}

void Supervisor::SetCommand(const std::string& name, ChildCommand command) {
  for (Child& child : children_) {
    if (child.name == name) child.command = std::move(command);
  }
}

bool Supervisor::IsRunning(const std::string& name) const {
  return std::any_of(children_.begin(), children_.end(),
                     [&](const Child& child) { return child.name == name && child.process.has_value(); });
}

void Supervisor::StopChildren(const std::vector<Child*>& children, absl::Duration grace,
                              const std::function<bool()>& hurry) {
  for (Child* child : children) {
    child->due.reset();
    if (child->process.has_value()) child->process->Signal(SIGTERM);
  }
  const absl::Duration deadline = clock_.MonotonicNow() + grace;
  bool killed = false;
  while (true) {
    bool all_ended = true;
    for (Child* child : children) {
      if (child->process.has_value() && child->process->Poll().has_value()) child->process.reset();
      all_ended = all_ended && !child->process.has_value();
    }
    if (all_ended) return;
    if (!killed && (hurry() || clock_.MonotonicNow() >= deadline)) {
      killed = true;
      for (Child* child : children) {
        if (!child->process.has_value()) continue;
        say_(fmt::format("{} did not stop in time and is killed", child->name));
        child->process->Signal(SIGKILL);
      }
    }
    Pause(absl::Milliseconds(20));
  }
}

void Supervisor::Stop(absl::Duration grace, const std::function<bool()>& hurry) {
  std::vector<Child*> first;
  std::vector<Child*> last;
  for (Child& child : children_) (&child == &children_.front() ? last : first).push_back(&child);
  StopChildren(first, grace, hurry);
  StopChildren(last, grace, hurry);
}

}  // namespace loupe::cli
