#include "coordinator/metrics/metrics.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <utility>
#include <variant>
#include <vector>

#include "common/process_use.h"
#include "common/status_macros.h"

namespace loupe::coordinator::metrics {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

// A quiet SSD commits in less than the first, a disk in trouble in more than the last.
const prometheus::Histogram::BucketBoundaries kCommitSeconds = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
                                                                0.05,   0.1,   0.25,   0.5,   1,    2.5};
const prometheus::Histogram::BucketBoundaries kCommitEffects = {1, 10, 100, 1000, 10000};
constexpr int64_t kMostSweeps = 100000;

constexpr std::pair<scheduler::SweepState, const char*> kSweepStates[] = {
    {scheduler::SweepState::kActive, "active"},     {scheduler::SweepState::kPaused, "paused"},
    {scheduler::SweepState::kStopping, "stopping"}, {scheduler::SweepState::kCompleted, "completed"},
    {scheduler::SweepState::kStopped, "stopped"},   {scheduler::SweepState::kCancelled, "cancelled"}};

// All that is looked at in one turn of the engine.
struct Seen {
  scheduler::SchedulerCounters counters;
  scheduler::TrialCounts trials;
  // Of sweeps that may run now.
  int64_t runnable = 0;
  int64_t waiting = 0;
  int64_t workers_idle = 0;
  int64_t workers_busy = 0;
  int64_t workers_draining = 0;
  int64_t workers_lost = 0;
  int64_t slots = 0;
  absl::Duration longest_silence;
  scheduler::Scheduler::Demand demand;
  // Connected, by name.
  std::vector<std::string> connected;
};

class Page {
 public:
  void Gauge(const char* name, const char* help, double value) { Add(name, help, MetricType::Gauge, {{{}, value}}); }
  void Counter(const char* name, const char* help, double value) {
    Add(name, help, MetricType::Counter, {{{}, value}});
  }
  // One value per value of a label.
  using Values = std::vector<std::pair<std::string, double>>;
  void Gauges(const char* name, const char* help, const char* label, const Values& values) {
    AddByLabel(name, help, MetricType::Gauge, label, values);
  }
  void Counters(const char* name, const char* help, const char* label, const Values& values) {
    AddByLabel(name, help, MetricType::Counter, label, values);
  }
  // One value per worker, or per GPU of a worker; none where nobody says it.
  using OfWorkers = std::vector<std::pair<std::vector<ClientMetric::Label>, double>>;
  void Gauges(const char* name, const char* help, const OfWorkers& values) {
    AddLabelled(name, help, MetricType::Gauge, values);
  }
  void Counters(const char* name, const char* help, const OfWorkers& values) {
    AddLabelled(name, help, MetricType::Counter, values);
  }
  void Histogram(const char* name, const char* help, const prometheus::Histogram& histogram) {
    families_.push_back({name, help, MetricType::Histogram, {histogram.Collect()}});
  }
  std::string Text() const { return prometheus::TextSerializer().Serialize(families_); }

 private:
  struct Value {
    std::vector<ClientMetric::Label> labels;
    double value;
  };
  void Add(const char* name, const char* help, MetricType type, const std::vector<Value>& values) {
    MetricFamily family{name, help, type, {}};
    for (const Value& one : values) {
      ClientMetric metric;
      metric.label = one.labels;
      metric.gauge.value = one.value;
      metric.counter.value = one.value;
      family.metric.push_back(std::move(metric));
    }
    families_.push_back(std::move(family));
  }
  void AddLabelled(const char* name, const char* help, MetricType type, const OfWorkers& values) {
    std::vector<Value> all;
    for (const auto& [labels, value] : values) all.push_back({labels, value});
    Add(name, help, type, all);
  }
  void AddByLabel(const char* name, const char* help, MetricType type, const char* label, const Values& values) {
    std::vector<Value> all;
    for (const auto& [text, value] : values) {
      ClientMetric::Label one;
      one.name = label;
      one.value = text;
      all.push_back({{std::move(one)}, value});
    }
    Add(name, help, type, all);
  }

  std::vector<MetricFamily> families_;
};

double FileBytes(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 ? static_cast<double>(info.st_size) : 0;
}

void AddProcess(Page& page) {
  page.Gauge("process_resident_memory_bytes", "Resident memory size in bytes.", static_cast<double>(ResidentBytes()));
  page.Counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", ProcessCpuSeconds());
  std::error_code error;
  double files = 0;
  for (std::filesystem::directory_iterator at("/proc/self/fd", error), end; !error && at != end; at.increment(error))
    ++files;
  page.Gauge("process_open_fds", "Number of open file descriptors.", files);
}

Seen Look(scheduler::Scheduler& scheduler, const std::vector<std::string>& sweeps, const scheduler::Now& now) {
  Seen seen;
  seen.counters = scheduler.counters();
  seen.demand = scheduler.DemandAt(now);
  for (const std::string& id : sweeps) {
    const absl::StatusOr<scheduler::Scheduler::SweepView> view = scheduler.View(id, now);
    if (!view.ok()) continue;
    const scheduler::TrialCounts& counts = view->counts;
    seen.trials.queued += counts.queued;
    seen.trials.running += counts.running;
    seen.trials.succeeded += counts.succeeded;
    seen.trials.failed += counts.failed;
    seen.trials.cancelled += counts.cancelled;
    seen.trials.quarantined += counts.quarantined;
    if (view->record->shown_state() == scheduler::SweepState::kActive) seen.runnable += counts.queued;
    for (const scheduler::WaitingTrials& waiting : view->waiting) seen.waiting += waiting.trials;
  }
  for (const auto& [id, worker] : scheduler.workers().all()) {
    const absl::Duration silence = now.monotonic - worker.last_sync;
    if (silence > scheduler.options().lease) {
      ++seen.workers_lost;
      continue;
    }
    seen.longest_silence = std::max(seen.longest_silence, silence);
    seen.connected.push_back(id);
    seen.slots += worker.record.slots;
    if (worker.leaving || worker.record.draining) {
      ++seen.workers_draining;
    } else {
      ++(worker.attempts.empty() ? seen.workers_idle : seen.workers_busy);
    }
  }
  return seen;
}

ClientMetric::Label LabelOf(const char* name, const std::string& value) {
  ClientMetric::Label label;
  label.name = name;
  label.value = value;
  return label;
}

// What workers say of themselves (loupe.v1.WorkerTelemetry), and in which phases their trials are.
void AddWorkers(Page& page, const engine::WorkerTelemetryTable& telemetry, const std::vector<std::string>& connected) {
  // A worker may call its phases what it likes.
  Page::Values phases = {{"queued", 0}, {"prepare", 0}, {"base", 0}, {"train", 0},
                         {"sample", 0}, {"score", 0},   {"wait", 0}, {"other", 0}};
  Page::OfWorkers attempts, memory, cpu, step, pictures, gpu_used, gpu_total, gpu_busy;
  for (size_t i = 0; i < connected.size(); ++i) {
    const std::optional<engine::WorkerTelemetryTable::Entry> said = telemetry.Of(connected[i]);
    if (!said) continue;
    for (const v1::RunningAttempt& attempt : said->attempts) {
      const auto known = std::find_if(phases.begin(), std::prev(phases.end()),
                                      [&](const auto& phase) { return phase.first == attempt.phase(); });
      ++known->second;
    }
    if (!said->telemetry || i >= kMostWorkersShown) continue;
    const v1::WorkerTelemetry& own = *said->telemetry;
    const ClientMetric::Label worker = LabelOf("worker", connected[i]);
    attempts.push_back({{worker}, static_cast<double>(said->attempts.size())});
    memory.push_back({{worker}, static_cast<double>(own.memory_bytes())});
    cpu.push_back({{worker}, own.cpu_seconds()});
    if (own.step_seconds() > 0) step.push_back({{worker}, own.step_seconds()});
    if (own.pictures_per_second() > 0) pictures.push_back({{worker}, own.pictures_per_second()});
    std::set<std::string> named;
    for (const v1::GpuTelemetry& gpu : own.gpus()) {
      // "cuda:0", without the maker's name. A series that is there twice would cost the whole page.
      const std::string name = gpu.device().substr(0, gpu.device().find(' '));
      if (!named.insert(name).second) continue;
      const ClientMetric::Label device = LabelOf("gpu", name);
      gpu_used.push_back({{worker, device}, static_cast<double>(gpu.memory_used_bytes())});
      gpu_total.push_back({{worker, device}, static_cast<double>(gpu.memory_total_bytes())});
      if (gpu.has_utilization()) gpu_busy.push_back({{worker, device}, gpu.utilization()});
    }
  }
  page.Gauges("loupe_attempts_running", "Attempts that run, by what they are at; of a worker, 64 at most.", "phase",
              phases);
  page.Gauges("loupe_worker_attempts", "Attempts that the worker runs; 64 at most.", attempts);
  page.Gauges("loupe_worker_resident_memory_bytes", "Resident memory of the worker's process.", memory);
  page.Counters("loupe_worker_cpu_seconds_total", "Processor time of the worker's process.", cpu);
  page.Gauges("loupe_worker_step_seconds", "Mean time of an optimiser step, of late.", step);
  page.Gauges("loupe_worker_pictures_per_second", "Pictures drawn per second while the worker draws, of late.",
              pictures);
  page.Gauges("loupe_worker_gpu_memory_used_bytes", "Memory in use on a GPU of the worker, by all processes.",
              gpu_used);
  page.Gauges("loupe_worker_gpu_memory_bytes", "Memory of a GPU of the worker.", gpu_total);
  page.Gauges("loupe_worker_gpu_utilization_ratio", "Share of the last moments in which a kernel ran on the GPU.",
              gpu_busy);
  page.Gauge("loupe_workers_left_out", "Connected workers that have no series of their own, as there are too many.",
             static_cast<double>(connected.size() - std::min(connected.size(), kMostWorkersShown)));
  const engine::WorkTotals totals = telemetry.Totals();
  page.Counter("loupe_training_steps_total", "Optimiser steps of all workers.", static_cast<double>(totals.steps));
  page.Counter("loupe_training_step_seconds_total", "Time that these steps took.", totals.step_seconds);
  page.Counter("loupe_sampled_pictures_total", "Pictures that all workers drew for scores.",
               static_cast<double>(totals.pictures));
  page.Counter("loupe_sampling_seconds_total", "Time that these pictures took.", totals.picture_seconds);
}

}  // namespace

Metrics::Metrics() : commit_seconds_(kCommitSeconds), commit_effects_(kCommitEffects) {}

void Metrics::NoteCommit(const scheduler::Effects& committed, absl::Duration took) {
  commit_seconds_.Observe(absl::ToDoubleSeconds(took));
  commit_effects_.Observe(static_cast<double>(committed.size()));
  for (const scheduler::Effect& effect : committed) {
    if (const auto* end = std::get_if<scheduler::EndAttempt>(&effect))
      ++attempts_ended_[static_cast<size_t>(end->outcome)];
  }
}

absl::StatusOr<std::string> Metrics::Text(const MetricsDeps& deps) {
  LOUPE_ASSIGN_OR_RETURN(const std::vector<scheduler::SweepRecord> sweeps, deps.store->ListSweeps(0, kMostSweeps));
  std::vector<std::string> open;
  std::map<scheduler::SweepState, int64_t> states;
  for (const scheduler::SweepRecord& sweep : sweeps) {
    ++states[sweep.state];
    if (!scheduler::IsTerminal(sweep.state)) open.push_back(sweep.id);
  }
  LOUPE_ASSIGN_OR_RETURN(
      const Seen seen,
      deps.engine->Call<Seen>([open](scheduler::Scheduler& scheduler, const scheduler::Now& now, scheduler::Effects&) {
        return absl::StatusOr<Seen>(Look(scheduler, open, now));
      }));
  const auto number = [](int64_t value) { return static_cast<double>(value); };
  Page page;
  page.Gauges("loupe_build_info", "The program, by its version; always 1.", "version", {{deps.version, 1}});
  Page::Values by_state;
  for (const auto& [state, name] : kSweepStates) by_state.emplace_back(name, number(states[state]));
  page.Gauges("loupe_sweeps", "Sweeps by state.", "state", by_state);
  page.Gauges("loupe_trials", "Trials of sweeps that have not ended, by state.", "state",
              {{"queued", number(seen.trials.queued)},
               {"running", number(seen.trials.running)},
               {"succeeded", number(seen.trials.succeeded)},
               {"failed", number(seen.trials.failed)},
               {"cancelled", number(seen.trials.cancelled)},
               {"quarantined", number(seen.trials.quarantined)}});
  page.Gauge("loupe_trials_runnable", "Queued trials of active sweeps: what an autoscaler looks at.",
             number(seen.runnable));
  page.Gauge("loupe_trials_unfit", "Queued trials that no connected worker can run.", number(seen.waiting));
  page.Gauge("loupe_slots_wanted", "Slots of workers that would be busy now if they were there.",
             number(seen.runnable + seen.trials.running));
  page.Gauge("loupe_workers_wanted",
             "Workers that would have enough to do, by queued and running trials and the time that trials took.",
             number(seen.demand.wanted));
  page.Gauge("loupe_workers_available", "Connected workers that take trials: not leaving, drained or set aside.",
             number(seen.demand.available));
  page.Gauge("loupe_slots", "Slots of connected workers.", number(seen.slots));
  page.Gauges("loupe_workers", "Workers by state.", "state",
              {{"idle", number(seen.workers_idle)},
               {"busy", number(seen.workers_busy)},
               {"draining", number(seen.workers_draining)},
               {"lost", number(seen.workers_lost)}});
  page.Gauge("loupe_worker_last_heartbeat_age_seconds", "Longest silence of a worker that holds its leases.",
             absl::ToDoubleSeconds(seen.longest_silence));
  AddWorkers(page, *deps.telemetry, seen.connected);
  page.Counter("loupe_leases_granted_total", "Leases given to workers.", number(seen.counters.leases_granted));
  page.Counter("loupe_lease_expirations_total", "Leases that ended because their worker was silent.",
               number(seen.counters.leases_expired));
  page.Counter("loupe_stale_writes_rejected_total", "Writes under a lease that was lost.",
               number(seen.counters.stale_writes_refused));
  page.Counter("loupe_results_accepted_total", "Results that trials ended with.",
               number(seen.counters.results_accepted));
  page.Counters("loupe_trial_attempts_total", "Attempts that ended, by outcome.", "outcome",
                {{"succeeded", number(attempts_ended_[static_cast<size_t>(scheduler::AttemptEnd::kSucceeded)])},
                 {"failed", number(attempts_ended_[static_cast<size_t>(scheduler::AttemptEnd::kFailed)])},
                 {"lost", number(attempts_ended_[static_cast<size_t>(scheduler::AttemptEnd::kLost)])},
                 {"stopped", number(attempts_ended_[static_cast<size_t>(scheduler::AttemptEnd::kStopped)])}});
  page.Histogram("loupe_db_commit_duration_seconds", "The store's part of a batch of requests.", commit_seconds_);
  page.Histogram("loupe_db_commit_effects", "Changes in a batch of requests.", commit_effects_);
  page.Gauge("loupe_db_bytes", "Size of the database's file.", FileBytes(deps.database));
  page.Gauge("loupe_db_wal_bytes", "Size of the database's write-ahead log.", FileBytes(deps.database + "-wal"));
  page.Gauge("loupe_open_calls", "Calls that are open, by gRPC and by HTTP, streams included.",
             static_cast<double>(deps.calls->size()));
  if (deps.spans != nullptr) {
    page.Counter("loupe_trace_spans_sent_total", "Spans that a collector took.", number(deps.spans->sent()));
    page.Counter("loupe_trace_spans_dropped_total", "Spans that no collector took, or that did not fit.",
                 number(deps.spans->dropped()));
  }
  AddProcess(page);
  return page.Text();
}

}  // namespace loupe::coordinator::metrics
