// Workers: what they believe, send and hear.
#include <algorithm>
#include <utility>

#include "common/error_details.h"
#include "tests/simulation/mixed_needs.h"
#include "tests/simulation/simulation.h"

namespace loupe::simulation {

void Simulation::ScheduleTick(int index, int64_t milliseconds) {
  const uint64_t timer = ++workers_[static_cast<size_t>(index)].timer;
  After(absl::Milliseconds(milliseconds), [this, index, timer] {
    if (workers_[static_cast<size_t>(index)].timer == timer) TickWorker(index);
  });
}

void Simulation::TickWorker(int index) {
  Worker& worker = workers_[static_cast<size_t>(index)];
  const absl::Duration now = clock_.MonotonicNow();
  if (!worker.alive) return;
  if (now < worker.frozen_until) return ScheduleTick(index, Uniform(100, 1000));
  coordinator::scheduler::SyncRequest request;
  request.worker = worker.name;
  request.session = fmt::format("s{}", worker.session);
  request.description.abilities = AbilitiesOf(index, worker.session);
  request.slots = 1;
  // Memory runs out now and then, with room for half of the pack from then on: the others are given back.
  size_t keeps = worker.held.size();
  if (Hostile() && worker.pack_slots > 1 && keeps > 1 && Chance(0.1)) {
    keeps /= 2;
    // What it holds may be more than it asks for: what has ended is held until that is acknowledged.
    worker.pack_slots = std::min(worker.pack_slots, static_cast<int32_t>(keeps));
    ++result_.packs_halved;
  }
  request.pack_slots = worker.pack_slots;
  for (auto it = worker.held.begin(); it != worker.held.end();) {
    Held& held = it->second;
    const bool given_back = static_cast<size_t>(std::distance(worker.held.begin(), it)) >= keeps;
    if (now >= held.until && !worker.zombie) {
      it = worker.held.erase(it);
      continue;
    }
    if (held.work_left > 0 && --held.work_left >= 0) ++held.points;
    const bool early = held.work_left > 0 && held.finish_after > 0 && held.points >= held.finish_after;
    if (early) held.work_left = 0;
    coordinator::scheduler::AttemptReport report;
    report.lease = held.lease;
    report.phase = "train";
    report.step = held.points;
    for (int64_t point = held.acknowledged + 1; point <= held.points; ++point) {
      report.points.push_back({"loss", point, static_cast<double>(1 + held.lease.index) / static_cast<double>(point)});
    }
    report.point_sequence = held.points;
    if (given_back) {
      report.outcome = coordinator::scheduler::Stopped{};
    } else if (held.work_left == 0) {
      // Now and then an attempt fails for its own reasons, but not for ever.
      if (Faulty() && (held.lease.epoch + held.lease.index) % 5 == 0) {
        report.outcome =
            coordinator::scheduler::Failure{coordinator::scheduler::FailureClass::kRetryable, "a failure on purpose"};
      } else {
        coordinator::scheduler::Result result{{{"score", CleanScore(held.lease.index)}}};
        if (early) {
          result.stopped_at_step = held.points;
          ++result_.finished_early;
        }
        report.outcome = std::move(result);
      }
    }
    request.attempts.push_back(std::move(report));
    ++it;
  }
  Send(index, request);
  ScheduleTick(index, Uniform(1000, 9000));
}

void Simulation::Send(int index, const coordinator::scheduler::SyncRequest& request) {
  const uint64_t number = ++workers_[static_cast<size_t>(index)].latest_call;
  const int copies = Hostile() && Chance(0.05) ? 2 : 1;
  if (copies == 2) ++result_.messages_duplicated;
  for (int copy = 0; copy < copies; ++copy) {
    if (Hostile() &&
        (Chance(0.05) || clock_.MonotonicNow() < partitions_[static_cast<size_t>(index)].until_to_coordinator)) {
      ++result_.messages_lost;
      continue;
    }
    // Sometimes a message is very late: it overtakes nothing and is overtaken by much.
    const int64_t delay = Hostile() && Chance(0.05) ? Uniform(1000, 60000) : Uniform(1, 200);
    After(absl::Milliseconds(delay), [this, index, request, number] { Receive(index, request, number); });
  }
}

void Simulation::Receive(int index, const coordinator::scheduler::SyncRequest& request, uint64_t number) {
  if (!engine_) return;
  const uint64_t generation = generation_;
  const int session = workers_[static_cast<size_t>(index)].session;
  coordinator::engine::SyncCall call;
  call.request = request;
  call.max_wait = request.attempts.empty() ? absl::Seconds(20) : absl::ZeroDuration();
  call.id = ++next_call_;
  call.reply = [this, index, request, generation, session,
                number](const absl::StatusOr<coordinator::scheduler::SyncAnswer>& answer) {
    // A coordinator whose disk is frozen in this very commit is gone before the answer leaves.
    if (generation != generation_ || disk_.frozen()) return;
    CheckAnswer(request, answer);
    if (Hostile() &&
        (Chance(0.05) || clock_.MonotonicNow() < partitions_[static_cast<size_t>(index)].until_from_coordinator)) {
      ++result_.messages_lost;
      return;
    }
    const int64_t delay = Hostile() && Chance(0.03) ? Uniform(1000, 40000) : Uniform(1, 200);
    After(absl::Milliseconds(delay), [this, index, request, answer, session, number] {
      if (workers_[static_cast<size_t>(index)].latest_call == number) Answered(index, request, answer, session);
    });
  };
  std::vector<coordinator::engine::EngineInput> batch;
  batch.emplace_back(std::move(call));
  Feed(std::move(batch));
}

void Simulation::Answered(int index, const coordinator::scheduler::SyncRequest& request,
                          const absl::StatusOr<coordinator::scheduler::SyncAnswer>& answer, int session) {
  Worker& worker = workers_[static_cast<size_t>(index)];
  if (!worker.alive || worker.session != session || clock_.MonotonicNow() < worker.frozen_until) return;
  if (!answer.ok()) {
    if (ReasonOf(answer.status()) == kReasonSessionSuperseded) RestartWorker(index);
    return;
  }
  for (size_t i = 0; i < answer->verdicts.size(); ++i) {
    const coordinator::scheduler::AttemptReport& report = request.attempts[i];
    const std::string key = KeyOf(report.lease);
    const auto held = worker.held.find(key);
    if (held == worker.held.end()) continue;
    if (!answer->verdicts[i].status.ok() || report.outcome.index() != 0) {
      if (answer->verdicts[i].status.ok() || !worker.zombie) {
        worker.held.erase(held);
      }
    } else {
      held->second.acknowledged = std::max(held->second.acknowledged, answer->verdicts[i].acknowledged_point_sequence);
    }
  }
  for (const coordinator::scheduler::DesiredAttempt& desired : answer->desired) {
    const coordinator::scheduler::LeaseClaim lease{desired.sweep_id, desired.trial.index, desired.epoch,
                                                   ToHex(desired.token)};
    const std::string key = KeyOf(lease);
    const absl::Duration until = clock_.MonotonicNow() + answer->lease;
    const auto [held, is_new] =
        worker.held.try_emplace(key, Held{lease, until, static_cast<int>(Uniform(1, 6)), 0, 0, 0});
    held->second.until = std::max(held->second.until, until);
    held->second.finish_after = desired.finish_after_step;
  }
}

void Simulation::RestartWorker(int index) {
  Worker& worker = workers_[static_cast<size_t>(index)];
  worker.alive = true;
  ++worker.session;
  worker.held.clear();
  worker.zombie = false;
  worker.pack_slots = MostTogether(index);
  ScheduleTick(index, Uniform(10, 2000));
}

}  // namespace loupe::simulation
