#include "coordinator/notify/notifier.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>
#include <variant>

#include "common/status_macros.h"
#include "coordinator/notify/http_post.h"
#include "coordinator/notify/local_command.h"
#include "fmt/format.h"
#include "spdlog/spdlog.h"

namespace loupe::coordinator {
namespace {

constexpr char kFile[] = "/webhooks.json";
constexpr char kLogFile[] = "/webhooks.log";
// How soon a changed file counts.
constexpr absl::Duration kLookInterval = absl::Seconds(1);
constexpr size_t kMostHappenings = 10000;
constexpr int64_t kMostSweeps = 100000;
constexpr size_t kMostWords = 300;

std::string VersionOf(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return "";
  return fmt::format("{}.{} {} {}", info.st_mtim.tv_sec, info.st_mtim.tv_nsec, info.st_size, info.st_ino);
}

const char* EndOf(SweepState state) {
  return state == SweepState::kCompleted ? "is completed"
         : state == SweepState::kStopped ? "has stopped"
                                         : "was cancelled";
}

bool MayPass(const absl::StatusOr<int>& status) {
  if (!status.ok()) return !absl::IsPermissionDenied(status.status());
  return *status >= 500 || *status == 408 || *status == 425 || *status == 429;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Notifier>> Notifier::Start(const std::string& folder, StoreReader& store,
                                                          const Clock& clock, RandomSource& random,
                                                          const NotifierOptions& options) {
  std::unique_ptr<Notifier> notifier(new Notifier(folder, store, clock, random, options));
  notifier->version_ = VersionOf(folder + kFile);
  if (!options.command.empty()) {
    LOUPE_ASSIGN_OR_RETURN(notifier->command_, CommandWords(options.command));
  }
  LOUPE_ASSIGN_OR_RETURN(notifier->webhooks_, notifier->Read());
  LOUPE_ASSIGN_OR_RETURN(notifier->log_, AuditLog::Open(folder + kLogFile));
  notifier->thread_ = std::thread([raw = notifier.get()] { raw->Loop(); });
  return notifier;
}

Notifier::~Notifier() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
  // All at once, so that what is under way is waited for once.
  for (const auto& [name, lane] : lanes_) lane->Stop();
}

void Notifier::Note(const Effects& committed) {
  std::vector<Happening> noted;
  const absl::Time now = clock_.WallNow();
  for (const Effect& effect : committed) {
    if (const auto* update = std::get_if<UpdateSweep>(&effect)) {
      const SweepRecord& sweep = update->sweep;
      const auto [seen, is_new] = states_.try_emplace(sweep.key, SweepState::kActive);
      if (std::exchange(seen->second, sweep.state) == sweep.state && !is_new) continue;
      const bool paused_itself = sweep.state == SweepState::kPaused && !sweep.state_reason.empty();
      if (!IsTerminal(sweep.state) && !paused_itself) continue;
      noted.push_back({.event = paused_itself ? "sweep.paused" : "sweep.finished",
                       .time = now,
                       .sweep = sweep.key,
                       .sweep_id = sweep.id,
                       .state = sweep.state,
                       .reason = sweep.state_reason});
    } else if (const auto* trial = std::get_if<UpdateTrial>(&effect)) {
      if (trial->state != TrialState::kFailed && trial->state != TrialState::kQuarantined) continue;
      noted.push_back({.event = "trial.failed",
                       .time = now,
                       .sweep = trial->trial.sweep,
                       .index = trial->trial.index,
                       .trial_state = trial->state,
                       .reason = trial->last_failure ? trial->last_failure->message : ""});
    } else if (const auto* end = std::get_if<EndAttempt>(&effect)) {
      if (end->outcome != AttemptEnd::kLost) continue;
      noted.push_back(
          {.event = "worker.lost", .time = now, .sweep = end->trial.sweep, .index = end->trial.index, .reason = ""});
    } else if (const auto* purge = std::get_if<PurgeSweep>(&effect)) {
      states_.erase(purge->sweep);
    }
  }
  if (noted.empty()) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  for (Happening& happening : noted) {
    if (happenings_.size() < kMostHappenings) happenings_.push_back(std::move(happening));
  }
  changed_.notify_one();
}

void Notifier::Loop() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stopping_) {
    if (happenings_.empty()) changed_.wait_for(lock, absl::ToChronoMilliseconds(kLookInterval));
    if (stopping_) break;
    std::deque<Happening> happenings;
    happenings.swap(happenings_);
    lock.unlock();
    ReadAgain();
    if (!webhooks_.empty()) {
      for (const Happening& happening : happenings) Queue(happening);
    }
    lock.lock();
  }
}

absl::StatusOr<std::vector<Webhook>> Notifier::Read() const {
  LOUPE_ASSIGN_OR_RETURN(std::vector<Webhook> webhooks, ReadWebhooks(folder_ + kFile));
  for (const Webhook& webhook : webhooks) {
    if (webhook.mail_to.empty() || !command_.empty()) continue;
    return absl::InvalidArgumentError(
        fmt::format("'{}', webhook '{}': e-mail needs the coordinator's --notify-command, such as "
                    "'/usr/sbin/sendmail -t -i'",
                    folder_ + kFile, webhook.name));
  }
  return webhooks;
}

void Notifier::ReadAgain() {
  const std::string version = VersionOf(folder_ + kFile);
  if (version == version_) return;
  version_ = version;
  absl::StatusOr<std::vector<Webhook>> webhooks = Read();
  if (webhooks.ok()) {
    webhooks_ = *std::move(webhooks);
    // Of those that are gone, when nothing waits for them any more.
    std::erase_if(lanes_, [&](const auto& lane) {
      return lane.second->IsIdle() && std::none_of(webhooks_.begin(), webhooks_.end(),
                                                   [&](const Webhook& webhook) { return webhook.name == lane.first; });
    });
    spdlog::info("{} webhooks", webhooks_.size());
  } else {
    spdlog::error("{}; the webhooks are what they were before", std::string(webhooks.status().message()));
  }
}

std::string Notifier::NameOf(const Happening& happening) {
  if (!happening.sweep_id.empty()) return happening.sweep_id;
  if (!ids_.contains(happening.sweep)) {
    if (const auto sweeps = store_.ListSweeps(0, kMostSweeps); sweeps.ok()) {
      ids_.clear();
      for (const SweepRecord& sweep : *sweeps) ids_.emplace(sweep.key, sweep.id);
    }
  }
  const auto found = ids_.find(happening.sweep);
  return found == ids_.end() ? "" : found->second;
}

bool Notifier::Describe(const Happening& happening, Notification& notification) {
  const std::string id = NameOf(happening);
  if (id.empty()) return false;
  notification.id = ToUuid4(random_.NextToken());
  notification.event = happening.event;
  notification.time = happening.time;
  notification.sweep = "sweeps/" + id;
  if (happening.index >= 0) notification.trial = fmt::format("sweeps/{}/trials/{}", id, happening.index);
  std::string reason = happening.reason;
  if (reason.size() > kMostWords) reason = reason.substr(0, kMostWords) + "…";
  if (happening.event == "sweep.paused") {
    notification.message = fmt::format("Sweep '{}' is paused: {}", id, reason);
  } else if (happening.event == "sweep.finished") {
    const auto counts = store_.CountTrials(happening.sweep);
    notification.message = fmt::format("Sweep '{}' {}", id, EndOf(happening.state));
    if (counts.ok()) {
      notification.message += fmt::format(": {} of {} trials succeeded, {} failed", counts->succeeded, counts->total(),
                                          counts->failed + counts->quarantined);
    }
  } else if (happening.event == "trial.failed") {
    notification.message =
        fmt::format("Trial {} of sweep '{}' {}{}{}", happening.index, id,
                    happening.trial_state == TrialState::kFailed ? "failed" : "lost too many workers",
                    reason.empty() ? "" : ": ", reason);
  } else {
    const auto trial = store_.GetTrial({happening.sweep, happening.index});
    if (!trial.ok() || trial->worker.empty()) return false;
    const absl::Duration now = clock_.MonotonicNow();
    std::erase_if(workers_told_, [&](const auto& told) { return now - told.second > options_.worker_interval; });
    if (!workers_told_.emplace(trial->worker, now).second) return false;
    notification.worker = "workers/" + trial->worker;
    notification.message =
        fmt::format("Worker '{}' was lost while it ran trial {} of sweep '{}'", trial->worker, happening.index, id);
  }
  return true;
}

void Notifier::Queue(const Happening& happening) {
  Notification notification;
  const bool wanted = std::any_of(webhooks_.begin(), webhooks_.end(),
                                  [&](const Webhook& webhook) { return webhook.Wants(happening.event); });
  if (!wanted || !Describe(happening, notification)) return;
  for (const Webhook& webhook : webhooks_) {
    if (!webhook.Wants(happening.event)) continue;
    LaneOf(webhook).Add(webhook, notification);
  }
}

DeliveryLane& Notifier::LaneOf(const Webhook& webhook) {
  std::unique_ptr<DeliveryLane>& lane = lanes_[webhook.name];
  if (lane == nullptr) {
    lane = std::make_unique<DeliveryLane>(
        clock_, *log_,
        LaneOptions{.waits = options_.waits,
                    .most_waiting = options_.most_waiting,
                    .deliver = [this](const Webhook& to, const Notification& what) { return Deliver(to, what); }});
  }
  return *lane;
}

TryResult Notifier::Deliver(const Webhook& webhook, const Notification& notification) const {
  const std::string body = BodyOf(webhook, notification);
  if (!webhook.mail_to.empty()) {
    const absl::Status taken = RunLocalCommand(command_, body, options_.command_timeout);
    return {taken.ok(), /*may_pass=*/true, taken.ok() ? "taken by the command" : std::string(taken.message())};
  }
  HttpPost post{.tls = webhook.tls,
                .host = webhook.host,
                .port = webhook.port,
                .target = webhook.target,
                .headers = {},
                .body = body,
                .allow_private = webhook.allow_private};
  post.headers = {{"Content-Type", "application/json"},
                  {"User-Agent", "loupe"},
                  {"Loupe-Event", notification.event},
                  {"Loupe-Delivery", notification.id},
                  {"Loupe-Signature", SignatureOf(webhook.secret, clock_.WallNow(), post.body)}};
  const absl::StatusOr<int> status = Post(post, options_.timeout);
  return {status.ok() && *status >= 200 && *status < 300, MayPass(status),
          status.ok() ? fmt::format("answered {}", *status) : std::string(status.status().message())};
}

}  // namespace loupe::coordinator
