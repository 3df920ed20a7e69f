#include "coordinator/notify/notifier.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>
#include <variant>

#include "common/guarded.h"
#include "common/http_post.h"
#include "common/logging.h"
#include "common/random_source.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "coordinator/notify/local_command.h"
#include "fmt/format.h"

namespace loupe::coordinator::notify {
namespace {

constexpr char kFile[] = "/webhooks.json";
constexpr char kLogFile[] = "/webhooks.log";
// How soon a changed file counts.
constexpr absl::Duration kLookInterval = absl::Seconds(1);
constexpr size_t kMostHappenings = 10000;
constexpr int64_t kMostSweeps = 100000;
constexpr size_t kMostWords = 300;
constexpr char kNoSuchWebhook[] = "given up: there is no such webhook any more";

std::string VersionOf(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return "";
  return fmt::format("{}.{} {} {}", info.st_mtim.tv_sec, info.st_mtim.tv_nsec, info.st_size, info.st_ino);
}

const char* EndOf(scheduler::SweepState state) {
  return state == scheduler::SweepState::kCompleted ? "is completed"
         : state == scheduler::SweepState::kStopped ? "has stopped"
                                                    : "was cancelled";
}

// The same event has the same id, whichever process finds it, and how often.
std::string IdOf(std::string_view event, const std::string& sweep_uid, int64_t index, int64_t version) {
  const std::string digest = Sha256Hex(fmt::format("{} {} {} {}", event, sweep_uid, index, version));
  return ToUuid4(*TokenFromHex(std::string_view(digest).substr(0, 32)));
}

bool MayPass(const absl::StatusOr<int>& status) {
  if (!status.ok()) return !absl::IsPermissionDenied(status.status());
  return *status >= 500 || *status == 408 || *status == 425 || *status == 429;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Notifier>> Notifier::Start(const std::string& folder, store::StoreReader& store,
                                                          const Clock& clock, const NotifierOptions& options) {
  std::unique_ptr<Notifier> notifier(new Notifier(folder, store, clock, options));
  notifier->version_ = VersionOf(folder + kFile);
  if (!options.command.empty()) {
    LOUPE_ASSIGN_OR_RETURN(notifier->command_, CommandWords(options.command));
  }
  LOUPE_ASSIGN_OR_RETURN(notifier->webhooks_, notifier->Read());
  LOUPE_ASSIGN_OR_RETURN(notifier->log_, access::AuditLog::Open(folder + kLogFile, options.log_bytes));
  LOUPE_RETURN_IF_ERROR(notifier->GoOn());
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

Notifier::Happening Notifier::OfSweep(const scheduler::SweepRecord& sweep) {
  const bool paused_itself = sweep.state == scheduler::SweepState::kPaused && !sweep.state_reason.empty();
  const bool has_end = scheduler::IsTerminal(sweep.state) && sweep.end_time;
  return {.event = paused_itself                        ? "sweep.paused"
                   : scheduler::IsTerminal(sweep.state) ? "sweep.finished"
                                                        : "",
          .time = has_end ? *sweep.end_time : sweep.update_time,
          .sweep = sweep.key,
          .sweep_id = sweep.id,
          .sweep_uid = sweep.uid,
          .state = sweep.state,
          .version = has_end ? absl::ToUnixMicros(*sweep.end_time) : sweep.revision,
          .worker = "",
          .reason = sweep.state_reason};
}

void Notifier::Note(const scheduler::Effects& committed) {
  std::vector<Happening> noted;
  // The attempts of one commit ended at one time, which says how far this has come.
  absl::Time now = clock_.WallNow();
  for (const scheduler::Effect& effect : committed) {
    if (const auto* end = std::get_if<scheduler::EndAttempt>(&effect)) now = end->end_time;
  }
  for (const scheduler::Effect& effect : committed) {
    if (const auto* update = std::get_if<scheduler::UpdateSweep>(&effect)) {
      const auto [seen, is_new] = states_.try_emplace(update->sweep.key, scheduler::SweepState::kActive);
      if (std::exchange(seen->second, update->sweep.state) == update->sweep.state && !is_new) continue;
      noted.push_back(OfSweep(update->sweep));
      noted.back().time = now;
    } else if (const auto* trial = std::get_if<scheduler::UpdateTrial>(&effect)) {
      if (trial->state != TrialState::kFailed && trial->state != TrialState::kQuarantined) continue;
      noted.push_back({.event = "trial.failed",
                       .time = now,
                       .sweep = trial->trial.sweep,
                       .index = trial->trial.index,
                       .epoch = trial->epoch,
                       .trial_state = trial->state,
                       .reason = trial->last_failure ? trial->last_failure->message : ""});
    } else if (const auto* end = std::get_if<scheduler::EndAttempt>(&effect)) {
      if (end->outcome != scheduler::AttemptEnd::kLost) continue;
      noted.push_back({.event = "worker.lost",
                       .time = now,
                       .sweep = end->trial.sweep,
                       .index = end->trial.index,
                       .epoch = end->epoch,
                       .reason = ""});
    } else if (const auto* purge = std::get_if<scheduler::PurgeSweep>(&effect)) {
      states_.erase(purge->sweep);
      noted.push_back({.event = "", .time = now, .sweep = purge->sweep});
    }
  }
  if (noted.empty()) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  for (Happening& happening : noted) {
    if (happenings_.size() < kMostHappenings) happenings_.push_back(std::move(happening));
  }
  changed_.notify_one();
}

absl::Status Notifier::GoOn() {
  const Told told = database_.ReadTold();
  for (const auto& [key, sweep] : told.sweeps) states_.emplace(key, sweep.state);
  if (webhooks_.empty()) {
    for (const Delivery& delivery : database_.Waiting()) LogDelivery(*log_, clock_, delivery, kNoSuchWebhook);
    database_.Begin({});
    return absl::OkStatus();
  }
  for (Delivery& delivery : database_.Waiting()) {
    if (const Webhook* webhook = Find(delivery.webhook); webhook != nullptr) {
      LaneOf(*webhook).Add(std::move(delivery));
    } else {
      database_.Remove(delivery);
      LogDelivery(*log_, clock_, delivery, kNoSuchWebhook);
    }
  }
  if (!told.attempts_until) {
    TellFromNowOn();
    return absl::OkStatus();
  }
  LOUPE_ASSIGN_OR_RETURN(std::vector<Happening> missed, MissedSince(told));
  for (const Happening& happening : missed) {
    if (!happening.sweep_uid.empty()) states_[happening.sweep] = happening.state;
  }
  happenings_.assign(missed.begin(), missed.end());
  return absl::OkStatus();
}

// What was committed, and not taken note of: the process was killed in between.
absl::StatusOr<std::vector<Notifier::Happening>> Notifier::MissedSince(const Told& told) {
  std::vector<Happening> missed;
  std::map<scheduler::SweepKey, Told::Sweep> gone = told.sweeps;
  LOUPE_ASSIGN_OR_RETURN(const std::vector<scheduler::SweepRecord> sweeps, store_.ListSweeps(0, kMostSweeps));
  for (const scheduler::SweepRecord& sweep : sweeps) {
    gone.erase(sweep.key);
    const auto seen = told.sweeps.find(sweep.key);
    const bool same = seen != told.sweeps.end() && seen->second.uid == sweep.uid;
    if ((same ? seen->second.state : scheduler::SweepState::kActive) != sweep.state) missed.push_back(OfSweep(sweep));
  }
  for (const auto& [key, sweep] : gone) missed.push_back({.event = "", .sweep = key});
  store::AttemptFilter filter{.trial = std::nullopt, .ended_after = *told.attempts_until, .after = std::nullopt};
  for (size_t found = 1; found > 0 && missed.size() < kMostHappenings;) {
    LOUPE_ASSIGN_OR_RETURN(const std::vector<store::AttemptRow> attempts, store_.ListAttempts(filter));
    found = attempts.size();
    for (const store::AttemptRow& attempt : attempts) {
      filter.after = {attempt.start_time, attempt.trial, attempt.epoch};
      if (!attempt.end_time ||
          (attempt.outcome != scheduler::AttemptEnd::kFailed && attempt.outcome != scheduler::AttemptEnd::kLost))
        continue;
      Happening happening{.event = "worker.lost",
                          .time = *attempt.end_time,
                          .sweep = attempt.trial.sweep,
                          .index = attempt.trial.index,
                          .epoch = attempt.epoch,
                          .worker = attempt.worker,
                          .reason = ""};
      if (attempt.outcome == scheduler::AttemptEnd::kLost) missed.push_back(happening);
      LOUPE_ASSIGN_OR_RETURN(const store::TrialRow trial, store_.GetTrial(attempt.trial));
      if (trial.epoch != attempt.epoch) continue;
      if (trial.state != TrialState::kFailed && trial.state != TrialState::kQuarantined) continue;
      happening.event = "trial.failed";
      happening.trial_state = trial.state;
      happening.reason = trial.last_failure ? trial.last_failure->message : "";
      missed.push_back(std::move(happening));
    }
  }
  std::stable_sort(missed.begin(), missed.end(),
                   [](const Happening& a, const Happening& b) { return a.time < b.time; });
  return missed;
}

void Notifier::TellFromNowOn() {
  Told told{.attempts_until = clock_.WallNow(), .sweeps = {}};
  if (const auto sweeps = store_.ListSweeps(0, kMostSweeps); sweeps.ok()) {
    for (const scheduler::SweepRecord& sweep : *sweeps) {
      if (sweep.state != scheduler::SweepState::kActive) told.sweeps[sweep.key] = {sweep.uid, sweep.state};
    }
  }
  database_.Begin(told);
}

void Notifier::Loop() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stopping_) {
    if (happenings_.empty()) changed_.wait_for(lock, absl::ToChronoMilliseconds(kLookInterval));
    if (stopping_) break;
    std::deque<Happening> happenings;
    happenings.swap(happenings_);
    lock.unlock();
    GuardedTurn("notifying", [&] {
      ReadAgain();
      if (!webhooks_.empty() && !happenings.empty()) Queue(happenings);
    });
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
    const bool were_none = webhooks_.empty();
    webhooks_ = *std::move(webhooks);
    if (webhooks_.empty()) {
      for (const auto& [name, lane] : lanes_) lane->GiveUp(kNoSuchWebhook);
      database_.Begin({});
    } else if (were_none) {
      TellFromNowOn();
    }
    for (const auto& [name, lane] : lanes_) {
      if (const Webhook* webhook = Find(name); webhook != nullptr) {
        lane->Use(*webhook);
      } else {
        lane->GiveUp(kNoSuchWebhook);
      }
    }
    std::erase_if(lanes_, [&](const auto& lane) { return lane.second->IsIdle() && Find(lane.first) == nullptr; });
    LogInfo("{} webhooks", webhooks_.size());
  } else {
    LogError("{}; the webhooks are what they were before", std::string(webhooks.status().message()));
  }
}

const Webhook* Notifier::Find(const std::string& name) const {
  const auto found =
      std::find_if(webhooks_.begin(), webhooks_.end(), [&](const Webhook& webhook) { return webhook.name == name; });
  return found == webhooks_.end() ? nullptr : &*found;
}

Notifier::SweepName Notifier::NameOf(const Happening& happening) {
  if (!happening.sweep_id.empty()) return {happening.sweep_id, happening.sweep_uid};
  if (!names_.contains(happening.sweep)) {
    if (const auto sweeps = store_.ListSweeps(0, kMostSweeps); sweeps.ok()) {
      names_.clear();
      for (const scheduler::SweepRecord& sweep : *sweeps) names_[sweep.key] = {sweep.id, sweep.uid};
    }
  }
  const auto found = names_.find(happening.sweep);
  return found == names_.end() ? SweepName{} : found->second;
}

bool Notifier::Describe(const Happening& happening, Notification& notification) {
  const auto [id, uid] = NameOf(happening);
  if (id.empty()) return false;
  notification.id =
      IdOf(happening.event, uid, happening.index, happening.index >= 0 ? happening.epoch : happening.version);
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
    std::string worker = happening.worker;
    if (const auto trial = store_.GetTrial({happening.sweep, happening.index}); worker.empty() && trial.ok())
      worker = trial->worker;
    if (worker.empty()) return false;
    const absl::Duration now = clock_.MonotonicNow();
    std::erase_if(workers_told_, [&](const auto& told) { return now - told.second > options_.worker_interval; });
    if (!workers_told_.emplace(worker, now).second) return false;
    notification.worker = "workers/" + worker;
    notification.message =
        fmt::format("Worker '{}' was lost while it ran trial {} of sweep '{}'", worker, happening.index, id);
  }
  return true;
}

void Notifier::Queue(const std::deque<Happening>& happenings) {
  Told told;
  std::vector<Delivery> deliveries;
  for (const Happening& happening : happenings) {
    if (happening.index >= 0) {
      told.attempts_until = happening.time;
    } else {
      told.sweeps[happening.sweep] = {happening.sweep_uid, happening.state};
      if (happening.sweep_uid.empty()) names_.erase(happening.sweep);
    }
    Notification notification;
    const bool wanted =
        !happening.event.empty() && std::any_of(webhooks_.begin(), webhooks_.end(),
                                                [&](const Webhook& webhook) { return webhook.Wants(happening.event); });
    if (!wanted || !Describe(happening, notification)) continue;
    for (const Webhook& webhook : webhooks_) {
      if (!webhook.Wants(happening.event)) continue;
      deliveries.push_back({.webhook = webhook.name, .notification = notification, .due = happening.time});
    }
  }
  // Stored before it is tried: who is killed while trying tries again.
  database_.Record(told, deliveries);
  for (Delivery& delivery : deliveries) LaneOf(*Find(delivery.webhook)).Add(std::move(delivery));
}

DeliveryLane& Notifier::LaneOf(const Webhook& webhook) {
  std::unique_ptr<DeliveryLane>& lane = lanes_[webhook.name];
  if (lane == nullptr) {
    lane = std::make_unique<DeliveryLane>(
        clock_, *log_, database_, webhook,
        LaneOptions{.waits = options_.waits,
                    .most_waiting = options_.most_waiting,
                    .most_age = options_.most_age,
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
  HttpPost post{webhook, /*headers=*/{}, body, webhook.allow_private};
  post.headers = {{"Content-Type", "application/json"},
                  {"User-Agent", "loupe"},
                  {"Loupe-Event", notification.event},
                  {"Loupe-Delivery", notification.id},
                  {"Loupe-Signature", SignatureOf(webhook.secret, clock_.WallNow(), post.body)}};
  const absl::StatusOr<int> status = Post(post, options_.timeout);
  return {status.ok() && *status >= 200 && *status < 300, MayPass(status),
          status.ok() ? fmt::format("answered {}", *status) : std::string(status.status().message())};
}

}  // namespace loupe::coordinator::notify
