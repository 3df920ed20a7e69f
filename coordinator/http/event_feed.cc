#include "coordinator/http/event_feed.h"

#include <google/protobuf/util/json_util.h>

#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/numbers.h"
#include "common/ids.h"
#include "common/logging.h"
#include "common/random_source.h"
#include "common/status_macros.h"
#include "coordinator/api/convert.h"
#include "fmt/format.h"

namespace loupe::coordinator::http {
namespace {

// Of trials in one event, and of events that are kept for streams that were cut.
constexpr size_t kMostTrials = 500;
constexpr size_t kMostEvents = 256;
constexpr size_t kKeptBytes = 4 << 20;
// Of events sent at one go.
constexpr size_t kMostAtOnce = 256 << 10;
// A page that loads again finds its feed.
constexpr absl::Duration kIdleTime = absl::Seconds(30);
constexpr std::string_view kEndSuffix = ".end";

std::string EventText(std::string_view id, std::string_view name, std::string_view data) {
  return fmt::format("id: {}\nevent: {}\ndata: {}\n\n", id, name, data);
}

}  // namespace

EventFeed::EventFeed(api::Handlers& handlers, scheduler::SweepRecord sweep, std::string id)
    : handlers_(handlers),
      sweep_(std::move(sweep)),
      id_(std::move(id)),
      idle_since_(handlers.backend.clock->MonotonicNow()) {}

bool EventFeed::ToldTheEndAfter(std::string_view event_id) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return complete_ && event_id.substr(0, event_id.rfind('-')) == id_ && !event_id.ends_with(kEndSuffix);
}

std::string EventFeed::IdOf(uint64_t number) const { return fmt::format("{}-{}", id_, number); }

EventFeed::Start EventFeed::StartAfter(std::string_view last_event_id) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  uint64_t number = 0;
  const size_t dash = last_event_id.rfind('-');
  const bool ours =
      dash != std::string_view::npos && last_event_id.substr(0, dash) == id_ &&
      absl::SimpleAtoi(absl::string_view(last_event_id.data() + dash + 1, last_event_id.size() - dash - 1), &number) &&
      number <= last_number_;
  if (ours && number >= dropped_) return {number, ""};
  // The state, and what came after it.
  Start start{last_number_, ""};
  for (const Event& event : events_) {
    if (event.is_state) start.position = event.number - 1;
  }
  start.position = std::max(start.position, dropped_);
  // Without an id, so that a stream that is cut right after it is told again.
  if (!last_event_id.empty()) start.prelude = "event: reload\ndata: {}\n\n";
  return start;
}

EventFeed::Next EventFeed::After(uint64_t position) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::string text;
  Next next{nullptr, position, false};
  // A stream that was too slow.
  if (position < dropped_) {
    text += EventText(IdOf(dropped_), "reload", "{}");
    next.position = dropped_;
  }
  for (const Event& event : events_) {
    if (event.number <= next.position) continue;
    if (!text.empty() && text.size() + event.text.size() > kMostAtOnce) break;
    text += event.text;
    next.position = event.number;
  }
  next.ended = ended_ && next.position == last_number_;
  if (!text.empty()) next.text = std::make_shared<const std::string>(std::move(text));
  return next;
}

uint64_t EventFeed::Subscribe(std::function<void()> wake) {
  const std::lock_guard<std::mutex> lock(mutex_);
  subscribers_.emplace(next_subscriber_, std::move(wake));
  return next_subscriber_++;
}

void EventFeed::Unsubscribe(uint64_t subscriber) {
  const std::lock_guard<std::mutex> lock(mutex_);
  subscribers_.erase(subscriber);
  idle_since_ = handlers_.backend.clock->MonotonicNow();
}

bool EventFeed::IsIdleLocked() const {
  return subscribers_.empty() && handlers_.backend.clock->MonotonicNow() - idle_since_ > kIdleTime;
}

bool EventFeed::IsIdle() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return IsIdleLocked();
}

bool EventFeed::HasEnded() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return ended_;
}

void EventFeed::NoteTrial(int64_t index) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (changed_.size() > kMostTrials) {
    many_changed_ = true;
  } else {
    changed_.insert(index);
  }
}

void EventFeed::NoteMany() {
  const std::lock_guard<std::mutex> lock(mutex_);
  many_changed_ = true;
}

bool EventFeed::TakeNews(absl::StatusOr<api::SweepApi::News> news) {
  const bool more = news.ok() && !news->last;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (ended_) return false;
    if (more && IsIdleLocked()) {
      ended_ = true;
      return false;
    }
    news_ = std::move(news);
    if (std::exchange(building_, true)) return more;
  }
  BuildLater();
  return more;
}

void EventFeed::BuildLater() {
  api::RunOnPool(
      handlers_.backend, "events", [self = shared_from_this()] { self->Build(); },
      [self = shared_from_this()](const absl::Status& failed) {
        LogWarning("events of sweep '{}' end: {}", self->sweep_.id, std::string(failed.message()));
        // Its streams are cut, and come again.
        std::vector<std::function<void()>> wakes;
        {
          const std::lock_guard<std::mutex> lock(self->mutex_);
          self->ended_ = true;
          for (const auto& [id, wake] : self->subscribers_) wakes.push_back(wake);
        }
        for (const auto& wake : wakes) wake();
      });
}

// On the pool's threads, one at a time.
void EventFeed::Build() {
  std::set<int64_t> changed;
  bool many = false;
  std::optional<absl::StatusOr<api::SweepApi::News>> news;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    changed.swap(changed_);
    many = std::exchange(many_changed_, false) || changed.size() > kMostTrials;
    news.swap(news_);
  }
  std::string trials;
  std::string state;
  google::protobuf::util::JsonPrintOptions json;
  if (!many && !changed.empty()) {
    v1::ListTrialsResponse list;
    for (const int64_t index : changed) {
      const absl::StatusOr<store::TrialRow> row = handlers_.backend.store->GetTrial({sweep_.key, index});
      if (row.ok()) *list.add_trials() = api::ToProto(sweep_, *row);
      // On its way in or out, with its sweep.
      many = many || !row.ok();
    }
    if (!google::protobuf::util::MessageToJsonString(list, &trials, json).ok()) many = true;
  }
  if (news && news->ok() && !google::protobuf::util::MessageToJsonString((*news)->message, &state, json).ok()) {
    state.clear();
  }
  std::vector<std::function<void()>> wakes;
  bool again = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (many) {
      Append(false, "reload", "{}");
    } else if (!trials.empty()) {
      Append(false, "trials", trials);
    }
    if (!state.empty()) Append(true, "sweep", state);
    const bool gone = news && absl::IsNotFound(news->status());
    if (news && ((news->ok() && (*news)->last) || gone)) {
      Append(false, "end", "{}", kEndSuffix);
      complete_ = true;
    }
    // After any other error the streams are cut without a word, and come again.
    ended_ = ended_ || (news && (!news->ok() || (*news)->last));
    again = building_ = news_.has_value();
    for (const auto& [id, wake] : subscribers_) wakes.push_back(wake);
  }
  for (const auto& wake : wakes) wake();
  if (again) BuildLater();
}

void EventFeed::Append(bool is_state, std::string_view name, std::string_view data, std::string_view id_suffix) {
  if (is_state) {
    std::erase_if(events_, [this](const Event& event) {
      if (event.is_state) event_bytes_ -= event.text.size();
      return event.is_state;
    });
  }
  const uint64_t number = ++last_number_;
  events_.push_back({number, is_state, EventText(fmt::format("{}{}", IdOf(number), id_suffix), name, data)});
  event_bytes_ += events_.back().text.size();
  while (events_.size() > 1 && (events_.size() > kMostEvents || event_bytes_ > kKeptBytes)) {
    // The state is made anew with the next event.
    if (!events_.front().is_state) dropped_ = events_.front().number;
    event_bytes_ -= events_.front().text.size();
    events_.pop_front();
  }
}

absl::StatusOr<std::shared_ptr<EventFeed>> EventFeeds::Open(const std::string& sweep_name,
                                                            std::string_view last_event_id) {
  LOUPE_ASSIGN_OR_RETURN(const SweepId id, SweepId::FromName(sweep_name));
  LOUPE_ASSIGN_OR_RETURN(scheduler::SweepRecord sweep, handlers_->backend.store->GetSweep(id.id()));
  std::shared_ptr<EventFeed> feed;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::erase_if(feeds_, [](const auto& entry) { return entry.second->IsIdle(); });
    std::shared_ptr<EventFeed>& kept = feeds_[sweep.key];
    count_ = feeds_.size();
    if (kept != nullptr && (!kept->HasEnded() || kept->ToldTheEndAfter(last_event_id))) return kept;
    kept = std::make_shared<EventFeed>(*handlers_, std::move(sweep),
                                       ToHex(handlers_->backend.random->NextToken()).substr(0, 12));
    feed = kept;
  }
  v1::WatchSweepRequest request;
  request.set_name(sweep_name);
  // Where it cannot begin to watch, the feed ends, and with it its streams.
  LOUPE_RETURN_IF_ERROR(handlers_->sweeps.WatchSweep(
      "events", request, [feed](absl::StatusOr<api::SweepApi::News> news) { return feed->TakeNews(std::move(news)); }));
  return feed;
}

EventFeed* EventFeeds::FeedOf(scheduler::SweepKey sweep) {
  const auto found = feeds_.find(sweep);
  return found == feeds_.end() ? nullptr : found->second.get();
}

template <typename E>
void EventFeeds::NoteOne(const E& effect) {
  EventFeed* feed = nullptr;
  if constexpr (std::is_same_v<E, scheduler::UpdateTrial> || std::is_same_v<E, scheduler::AcceptResult> ||
                std::is_same_v<E, scheduler::StartAttempt> || std::is_same_v<E, scheduler::EndAttempt>) {
    feed = FeedOf(effect.trial.sweep);
    if (feed != nullptr) feed->NoteTrial(effect.trial.index);
  } else if constexpr (std::is_same_v<E, scheduler::InsertTrials> || std::is_same_v<E, scheduler::CancelQueuedTrials>) {
    feed = FeedOf(effect.sweep);
    if (feed != nullptr) feed->NoteMany();
  }
}

void EventFeeds::Note(const scheduler::Effects& committed) {
  if (count_ == 0) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const scheduler::Effect& effect : committed) std::visit([this](const auto& one) { NoteOne(one); }, effect);
}

}  // namespace loupe::coordinator::http
