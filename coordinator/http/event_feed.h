// What happens in a sweep, as server-sent events: made once, however many streams carry it.
//
// Events of a sweep, each with an id:
//   sweep    a loupe.v1.WatchSweepResponse: the state as it is now. Of several that wait only the last is sent.
//   trials   {"trials": [loupe.v1.Trial, …]}: those that changed since the last such event, as they are now.
//   reload   {}: what changed cannot be told one by one (too much, or before this process): fetch the trials again.
//   end      {}: the sweep has ended, or is gone; nothing more comes.
// A stream that goes on after the id of its last event misses nothing: what is no longer kept, or came from another
// process, is made up for by reload and the state.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/api/handlers.h"
#include "coordinator/scheduler/effects.h"

namespace loupe::coordinator::http {

// Of one sweep. Thread-safe.
class EventFeed : public std::enable_shared_from_this<EventFeed> {
 public:
  EventFeed(api::Handlers& handlers, scheduler::SweepRecord sweep, std::string id);

  const scheduler::SweepRecord& sweep() const { return sweep_; }

  // Where a stream begins: behind what the event `last_event_id` tells, or, empty, at the state. A prelude to send
  // first: a reload where events are missing.
  struct Start {
    uint64_t position = 0;
    std::string prelude;
  };
  Start StartAfter(std::string_view last_event_id) const;

  // What comes after `position`, as bytes of the stream; null when there is nothing yet. `ended`: nothing will.
  struct Next {
    std::shared_ptr<const std::string> text;
    uint64_t position = 0;
    bool ended = false;
  };
  Next After(uint64_t position) const;

  // Has `wake` called (any thread, quick) whenever there may be more. Returns what Unsubscribe takes.
  uint64_t Subscribe(std::function<void()> wake);
  void Unsubscribe(uint64_t subscriber);

  // For EventFeeds. Whether the event is one of this feed's, and the sweep's end came after it.
  bool ToldTheEndAfter(std::string_view event_id) const;
  // On the engine's thread, quick: what changed …
  void NoteTrial(int64_t index);
  void NoteMany();
  // … and news; false when no more is wanted.
  bool TakeNews(absl::StatusOr<api::SweepApi::News> news);
  // Nobody listens, and has not for a while.
  bool IsIdle() const;
  bool HasEnded() const;

 private:
  struct Event {
    uint64_t number = 0;
    bool is_state = false;
    std::string text;
  };
  void BuildLater();
  void Build();
  // With the lock held.
  void Append(bool is_state, std::string_view name, std::string_view data, std::string_view id_suffix = "");
  bool IsIdleLocked() const;
  std::string IdOf(uint64_t number) const;

  api::Handlers& handlers_;
  const scheduler::SweepRecord sweep_;
  // Random: ids of another process, or of a feed before this one, are told apart.
  const std::string id_;
  mutable std::mutex mutex_;
  std::deque<Event> events_;
  size_t event_bytes_ = 0;
  uint64_t last_number_ = 0;
  // Trials' events up to here are no longer kept.
  uint64_t dropped_ = 0;
  std::set<int64_t> changed_;
  bool many_changed_ = false;
  std::optional<absl::StatusOr<api::SweepApi::News>> news_;
  bool building_ = false;
  bool ended_ = false;
  // With the sweep's end as its last event; otherwise streams come again, to another feed.
  bool complete_ = false;
  std::map<uint64_t, std::function<void()>> subscribers_;
  uint64_t next_subscriber_ = 1;
  absl::Duration idle_since_;
};

// Thread-safe. Outlives the engine's calls of Note and its feeds' watches.
class EventFeeds {
 public:
  // Before the first Open; the engine may have begun by then.
  void Serve(api::Handlers& handlers) { handlers_ = &handlers; }

  // The sweep's feed, made where there is none. One that has ended is for those alone who were cut off before they had
  // all of it: the sweep may have begun again. NOT_FOUND, INVALID_ARGUMENT. Waits for the store.
  absl::StatusOr<std::shared_ptr<EventFeed>> Open(const std::string& sweep_name, std::string_view last_event_id);

  // `committed` is durable. On the engine's thread.
  void Note(const scheduler::Effects& committed);

 private:
  template <typename E>
  void NoteOne(const E& effect);
  EventFeed* FeedOf(scheduler::SweepKey sweep);

  api::Handlers* handlers_ = nullptr;
  std::atomic<size_t> count_{0};
  std::mutex mutex_;
  std::map<scheduler::SweepKey, std::shared_ptr<EventFeed>> feeds_;
};

}  // namespace loupe::coordinator::http
