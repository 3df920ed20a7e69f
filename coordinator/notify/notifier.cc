#include "coordinator/notify/notifier.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>
#include <variant>

#include "common/status_macros.h"
#include "coordinator/notify/http_post.h"
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

// Worth another try: trouble of the network, of the server, or too many.
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
  LOUPE_ASSIGN_OR_RETURN(notifier->webhooks_, ReadWebhooks(folder + kFile));
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
  bool at_once = false;
  while (!stopping_) {
    // What is due at once is not waited for.
    if (happenings_.empty() && !at_once) changed_.wait_for(lock, WaitTime());
    if (stopping_) break;
    std::deque<Happening> happenings;
    happenings.swap(happenings_);
    lock.unlock();
    ReadAgain();
    if (!webhooks_.empty()) {
      for (const Happening& happening : happenings) Queue(happening);
    }
    const absl::Duration now = clock_.MonotonicNow();
    const auto due = std::find_if(deliveries_.begin(), deliveries_.end(),
                                  [&](const Delivery& delivery) { return delivery.due <= now; });
    at_once = due != deliveries_.end();
    if (at_once) {
      Delivery delivery = std::move(*due);
      deliveries_.erase(due);
      Deliver(std::move(delivery));
    }
    lock.lock();
  }
  for (const Delivery& delivery : deliveries_) Log(delivery, "given up: the coordinator ends");
}

// Until the next delivery is due, or the file of webhooks is looked at again.
std::chrono::milliseconds Notifier::WaitTime() const {
  absl::Duration wait = kLookInterval;
  const absl::Duration now = clock_.MonotonicNow();
  for (const Delivery& delivery : deliveries_) wait = std::min(wait, delivery.due - now);
  return std::max(absl::ToChronoMilliseconds(wait), std::chrono::milliseconds(1));
}

void Notifier::ReadAgain() {
  const std::string version = VersionOf(folder_ + kFile);
  if (version == version_) return;
  version_ = version;
  absl::StatusOr<std::vector<Webhook>> webhooks = ReadWebhooks(folder_ + kFile);
  if (webhooks.ok()) {
    webhooks_ = *std::move(webhooks);
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
    if (deliveries_.size() >= options_.most_waiting) {
      Log(deliveries_.front(), "given up: too many wait");
      deliveries_.pop_front();
    }
    deliveries_.push_back({webhook, notification, 0, clock_.MonotonicNow()});
  }
}

void Notifier::Deliver(Delivery delivery) {
  const Webhook& webhook = delivery.webhook;
  HttpPost post{.tls = webhook.tls,
                .host = webhook.host,
                .port = webhook.port,
                .target = webhook.target,
                .headers = {},
                .body = BodyOf(webhook, delivery.notification),
                .allow_private = webhook.allow_private};
  post.headers = {{"Content-Type", "application/json"},
                  {"User-Agent", "loupe"},
                  {"Loupe-Event", delivery.notification.event},
                  {"Loupe-Delivery", delivery.notification.id},
                  {"Loupe-Signature", SignatureOf(webhook.secret, clock_.WallNow(), post.body)}};
  const absl::StatusOr<int> status = Post(post, options_.timeout);
  ++delivery.tries;
  const std::string answer = status.ok() ? fmt::format("answered {}", *status) : std::string(status.status().message());
  if (status.ok() && *status >= 200 && *status < 300) return Log(delivery, answer);
  if (!MayPass(status) || delivery.tries > options_.waits.size())
    return Log(delivery, fmt::format("{}; given up", answer));
  const absl::Duration wait = options_.waits[delivery.tries - 1];
  Log(delivery, fmt::format("{}; again in {}", answer, absl::FormatDuration(wait)));
  delivery.due = clock_.MonotonicNow() + wait;
  deliveries_.push_back(std::move(delivery));
}

void Notifier::Log(const Delivery& delivery, const std::string& outcome) {
  log_->Append(fmt::format("{} {} {} {} try {}: {}", absl::FormatTime(clock_.WallNow(), absl::UTCTimeZone()),
                           delivery.webhook.name, delivery.notification.event, delivery.notification.id, delivery.tries,
                           outcome));
}

}  // namespace loupe::coordinator
