#include "cli/top_screen.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "analysis/report/number_format.h"
#include "cli/time_text.h"
#include "cli/views.h"
#include "fmt/format.h"

namespace loupe::cli {
namespace {

// What matters most is on the left: 80 columns show all up to the silence.
constexpr int kState = 12, kTrial = 22, kPhase = 36, kProgress = 44, kSpeed = 61, kSeen = 69, kDone = 80, kPack = 90,
              kMemory = 96, kUse = 110, kDevice = 121;
constexpr int kBarWidth = 6;

// "sweeps/cats/trials/7" -> "cats/7"
std::string ShortTrial(const std::string& name) {
  const std::string sweep = name.substr(0, name.find("/trials/"));
  return fmt::format("{}/{}", LastPart(sweep), LastPart(name));
}

// A text that leaves a blank before the next column.
void AddCell(StyledLine& line, int from, int to, std::string_view text, Style style = {}) {
  line.PadTo(from).Add(StyledLine(text).ClippedTo(to - from - 1).Plain(), style);
}

Style StyleOf(v1::Worker::State state) {
  switch (state) {
    case v1::Worker::BUSY:
      return kGood;
    case v1::Worker::LOST:
      return kBad;
    case v1::Worker::IDLE:
      return {};
    default:
      return kBusy;
  }
}

void AddTrial(StyledLine& line, const TopModel& model, const std::string& trial) {
  AddCell(line, kTrial, kPhase, ShortTrial(trial));
  const v1::RunningAttempt* attempt = model.Find(trial);
  if (attempt == nullptr) return;
  AddCell(line, kPhase, kProgress, attempt->phase());
  if (attempt->total_steps() > 0) {
    line.PadTo(kProgress)
        .Add(BlockBar(static_cast<double>(attempt->step()) / static_cast<double>(attempt->total_steps()), kBarWidth),
             kBusy)
        .Add(fmt::format(" {}/{}", attempt->step(), attempt->total_steps()));
  }
  if (const double speed = model.StepsPerSecond(trial); speed >= 0) {
    AddCell(line, kSpeed, kSeen, fmt::format("{}/s", analysis::report::FormatNumber(speed, 3)));
  }
}

// How many of its trials a worker trains together; one that does not say so has none.
int PackOf(const v1::Worker& worker) {
  int pack = 0;
  for (const v1::RunningAttempt& attempt : worker.attempts()) pack = std::max(pack, attempt.pack());
  return pack;
}

// Of the GPUs, "12/80.0 GB"; else of the process.
std::string MemoryText(const v1::WorkerTelemetry& telemetry) {
  double used = 0, total = 0;
  for (const v1::GpuTelemetry& gpu : telemetry.gpus()) {
    used += static_cast<double>(gpu.memory_used_bytes());
    total += static_cast<double>(gpu.memory_total_bytes());
  }
  if (total > 0) return fmt::format("{:.0f}/{}", used / 1e9, analysis::report::FormatSize(total));
  return telemetry.memory_bytes() > 0 ? analysis::report::FormatSize(static_cast<double>(telemetry.memory_bytes()))
                                      : "";
}

// Of the GPUs the share of time in which they compute, else how many cores are busy.
std::string UseText(const v1::WorkerTelemetry& telemetry) {
  double sum = 0;
  int gpus = 0;
  for (const v1::GpuTelemetry& gpu : telemetry.gpus()) {
    if (!gpu.has_utilization()) continue;
    sum += gpu.utilization();
    ++gpus;
  }
  if (gpus > 0) return fmt::format("{:.0f} % gpu", 100 * sum / gpus);
  return telemetry.busy_cores() > 0 ? fmt::format("{:.1f} cores", telemetry.busy_cores()) : "";
}

// A worker's first line has what belongs to it; its further trials have lines of their own.
void AppendWorker(std::vector<StyledLine>& lines, const TopModel& model, const v1::Worker& worker) {
  StyledLine line;
  AddCell(line, 0, kState, LastPart(worker.name()), kBold);
  AddCell(line, kState, kTrial, v1::Worker::State_Name(worker.state()), StyleOf(worker.state()));
  if (worker.running_size() > 0) AddTrial(line, model, worker.running(0));
  AddCell(line, kSeen, kDone, TimeText(Seconds(worker.since_last_sync())));
  line.PadTo(kDone).Add(fmt::format("{}", worker.trials_succeeded()));
  if (worker.trials_failed() > 0) line.Add(fmt::format("+{}", worker.trials_failed()), kBad);
  if (const int pack = PackOf(worker); pack > 1) line.PadTo(kPack).Add(fmt::format("{}", pack));
  if (worker.has_telemetry()) {
    AddCell(line, kMemory, kUse, MemoryText(worker.telemetry()));
    AddCell(line, kUse, kDevice, UseText(worker.telemetry()));
  }
  line.PadTo(kDevice).Add(worker.description().device());
  lines.push_back(line);
  for (int i = 1; i < worker.running_size(); ++i) {
    StyledLine& further = lines.emplace_back();
    AddTrial(further, model, worker.running(i));
  }
}

StyledLine TitleLine(TopOrder order) {
  StyledLine line;
  const auto add = [&](int from, const char* text, std::optional<TopOrder> by) {
    line.PadTo(from).Add(text, by == order ? kBold : kFaint);
  };
  add(0, "worker", TopOrder::kWorker);
  add(kState, "state", std::nullopt);
  add(kTrial, "trial", std::nullopt);
  add(kPhase, "phase", std::nullopt);
  add(kProgress, "step", std::nullopt);
  add(kSpeed, "steps", TopOrder::kSpeed);
  add(kSeen, "seen", TopOrder::kLastSeen);
  add(kDone, "done+bad", TopOrder::kDone);
  add(kPack, "pack", std::nullopt);
  add(kMemory, "memory", std::nullopt);
  add(kUse, "use", std::nullopt);
  add(kDevice, "device", std::nullopt);
  return line;
}

StyledLine CountsLine(const TopModel& model) {
  std::map<std::string, int> states;
  int64_t trials = 0, slots = 0;
  double speed = 0;
  for (const v1::Worker& worker : model.workers()) {
    ++states[v1::Worker::State_Name(worker.state())];
    trials += worker.running_size();
    if (worker.state() != v1::Worker::LOST) slots += worker.slots();
    speed += std::max(0.0, model.StepsPerSecond(worker));
  }
  StyledLine line(fmt::format("{} worker{}", model.workers().size(), model.workers().size() == 1 ? "" : "s"), kBold);
  for (const auto& [state, count] : states) line.Add(fmt::format("  {} {}", count, state));
  line.Add(fmt::format("  {} of {} slots run", trials, slots));
  if (speed > 0) line.Add(fmt::format("  {} steps/s", analysis::report::FormatNumber(speed, 3)));
  return line;
}

std::vector<const v1::Worker*> Sorted(const TopModel& model, TopOrder order) {
  std::vector<const v1::Worker*> sorted;
  for (const v1::Worker& worker : model.workers()) sorted.push_back(&worker);
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) { return a->name() < b->name(); });
  if (order == TopOrder::kWorker) return sorted;
  // The largest first.
  const auto key = [&](const v1::Worker* worker) {
    return order == TopOrder::kSpeed      ? model.StepsPerSecond(*worker)
           : order == TopOrder::kLastSeen ? Seconds(worker->since_last_sync())
                                          : static_cast<double>(worker->trials_succeeded());
  };
  std::stable_sort(sorted.begin(), sorted.end(), [&](const auto* a, const auto* b) { return key(a) > key(b); });
  return sorted;
}

}  // namespace

void TopModel::Update(std::vector<v1::Worker> workers, absl::Duration now) {
  workers_ = std::move(workers);
  std::map<std::string, Progress> before = std::exchange(running_, {});
  for (const v1::Worker& worker : workers_) {
    for (const v1::RunningAttempt& attempt : worker.attempts()) {
      Progress progress{.attempt = attempt, .since = now};
      const bool trains = attempt.phase() == "train";
      if (trains && worker.telemetry().step_seconds() > 0)
        progress.steps_per_second = 1 / worker.telemetry().step_seconds();
      const auto known = before.find(attempt.trial());
      // In another attempt, or another phase, steps are counted anew.
      if (known != before.end() && known->second.attempt.epoch() == attempt.epoch() &&
          known->second.attempt.phase() == attempt.phase()) {
        const Progress& last = known->second;
        const int64_t steps = attempt.step() - last.attempt.step();
        const double seconds = absl::ToDoubleSeconds(now - last.since);
        if (steps == 0) progress.since = last.since;
        if (steps > 0 && seconds > 0) {
          progress.steps_per_second = static_cast<double>(steps) / seconds;
        } else if (last.steps_per_second >= 0) {
          progress.steps_per_second = last.steps_per_second;
        }
      }
      running_[attempt.trial()] = std::move(progress);
    }
  }
}

const v1::RunningAttempt* TopModel::Find(const std::string& trial) const {
  const auto found = running_.find(trial);
  return found == running_.end() ? nullptr : &found->second.attempt;
}

double TopModel::StepsPerSecond(const std::string& trial) const {
  const auto found = running_.find(trial);
  return found == running_.end() ? -1 : found->second.steps_per_second;
}

double TopModel::StepsPerSecond(const v1::Worker& worker) const {
  double sum = -1;
  for (const std::string& trial : worker.running()) {
    if (const double speed = StepsPerSecond(trial); speed >= 0) sum = std::max(0.0, sum) + speed;
  }
  return sum;
}

std::vector<StyledLine> TopScreen(const TopModel& model, TopOrder order, const std::string& notice, bool keys,
                                  int width, int height) {
  const auto most = static_cast<size_t>(std::max(1, height)) - (keys ? 1 : 0);
  std::vector<StyledLine> lines = {CountsLine(model), StyledLine(), TitleLine(order)};
  const std::vector<const v1::Worker*> workers = Sorted(model, order);
  for (size_t i = 0; i < workers.size(); ++i) {
    const size_t before = lines.size();
    AppendWorker(lines, model, *workers[i]);
    const bool last = i + 1 == workers.size();
    if (lines.size() + (last ? 0 : 1) <= most) continue;
    // A worker's trials stay together.
    lines.resize(before);
    lines.emplace_back(fmt::format("and {} more", workers.size() - i), kFaint);
    break;
  }
  lines.resize(std::min(lines.size(), most));
  if (keys) {
    while (lines.size() < most) lines.emplace_back();
    StyledLine footer;
    if (!notice.empty()) footer.Add(notice + "  ", kBusy);
    lines.push_back(footer.Add(fmt::format("q leaves, s sorts (by {})", kTopOrders[static_cast<int>(order)]), kFaint));
  }
  for (StyledLine& line : lines) line = line.ClippedTo(width);
  return lines;
}

}  // namespace loupe::cli
