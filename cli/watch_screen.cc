#include "cli/watch_screen.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "analysis/report/number_format.h"
#include "cli/heat_map.h"
#include "cli/time_text.h"
#include "cli/views.h"
#include "fmt/format.h"

namespace loupe::cli {
namespace {

constexpr size_t kBestCells = 5;
constexpr int kStepsBarWidth = 10;
constexpr char kFooter[] = "q leaves, the sweep goes on";

using Lines = std::vector<StyledLine>;

// The states of trials in the order of the bar, each told by its glyph where there are no colours.
struct Part {
  int64_t trials;
  const char* glyph;
  const char* name;
  Style style;
};

std::array<Part, 6> PartsOf(const v1::TrialCounts& counts) {
  return {{{counts.succeeded(), "█", "succeeded", kGood},
           {counts.failed(), "▚", "failed", kBad},
           {counts.quarantined(), "▞", "quarantined", kBad},
           {counts.cancelled(), "▔", "cancelled", kFaint},
           {counts.running(), "▒", "running", kBusy},
           {counts.queued(), "░", "queued", kFaint}}};
}

// A column for every state that has a trial; the others are shared out in proportion.
StyledLine StatesBar(const v1::TrialCounts& counts, int width) {
  const std::array<Part, 6> parts = PartsOf(counts);
  int64_t total = 0;
  int taken = 0;
  for (const Part& part : parts) {
    total += part.trials;
    if (part.trials > 0) ++taken;
  }
  StyledLine bar;
  const int shared = std::max(0, width - taken);
  int64_t before = 0;
  int drawn = 0;
  for (const Part& part : parts) {
    if (part.trials == 0) continue;
    before += part.trials;
    const auto end = static_cast<int>(
        std::llround(static_cast<double>(shared) * static_cast<double>(before) / static_cast<double>(total)));
    std::string glyphs = part.glyph;
    for (; drawn < end; ++drawn) glyphs += part.glyph;
    bar.Add(glyphs, part.style);
  }
  return bar;
}

StyledLine StatesLegend(const v1::TrialCounts& counts) {
  StyledLine line;
  for (const Part& part : PartsOf(counts)) {
    if (part.trials == 0) continue;
    line.Add(line.width() == 0 ? "" : "  ")
        .Add(part.glyph, part.style)
        .Add(fmt::format(" {} {}", part.trials, part.name));
  }
  return line;
}

Lines Head(const WatchModel& model, int width) {
  const v1::Sweep& sweep = model.progress.state().sweep();
  const v1::TrialCounts& counts = sweep.counts();
  StyledLine head;
  head.Add(LastPart(sweep.name()), kBold)
      .Add(fmt::format("  {} of {} trials ({:.0f} %)", EndedTrials(counts), counts.total(), 100 * EndedShare(counts)));
  if (sweep.state() != v1::Sweep::ACTIVE) {
    head.Add("  " + v1::Sweep::State_Name(sweep.state()), sweep.state() == v1::Sweep::COMPLETED ? kGood : kBusy);
  }
  if (!sweep.state_reason().empty()) head.Add(": " + sweep.state_reason());
  std::string pace = RateText(model.progress.TrialsPerSecond());
  if (const double left = model.progress.SecondsLeft(); left >= 0 && !IsTerminal(sweep.state()))
    pace += fmt::format("{}{} left", pace.empty() ? "" : "  ", TimeText(left));
  Lines lines = {head.AddRight(StyledLine(pace), width), StatesBar(counts, width), StatesLegend(counts)};
  for (const v1::WaitingTrials& waiting : sweep.waiting()) lines.emplace_back(WaitingText(waiting), kBusy);
  return lines;
}

Lines Map(const WatchModel& model, int width, int height) {
  if (model.scores == nullptr) return {};
  return HeatMap(model.scores->Grid(), {.title = model.scores->title(),
                                        .smaller_is_better = model.scores->smaller_is_better(),
                                        .width = width,
                                        .height = height});
}

Lines BestLines(const WatchModel& model) {
  if (model.scores == nullptr || model.scores->results() == 0) return {};
  Lines lines = {StyledLine("Best cells", kBold)};
  for (const ScoredCell& cell : model.scores->Best(kBestCells)) {
    std::string spread;
    if (cell.sum.count > 1) {
      spread = fmt::format(" ± {} of {}", analysis::report::FormatNumber(cell.sum.Deviation(), 2), cell.sum.count);
    }
    StyledLine line("  " + analysis::report::FormatNumber(cell.sum.Mean(), 4));
    lines.push_back(line.Add(spread, kFaint).PadTo(24).Add("  " + cell.text));
  }
  return lines;
}

StyledLine RunningLine(const v1::RunningAttempt& attempt, bool same_worker) {
  StyledLine line("  ");
  line.Add(same_worker ? "" : LastPart(attempt.worker())).PadTo(11);
  line.Add(fmt::format(" {:>5}  {:<8}", LastPart(attempt.trial()), attempt.phase()));
  if (attempt.total_steps() > 0) {
    line.Add(BlockBar(static_cast<double>(attempt.step()) / static_cast<double>(attempt.total_steps()), kStepsBarWidth),
             kBusy)
        .Add(fmt::format(" {}/{}", attempt.step(), attempt.total_steps()));
  }
  line.PadTo(46).Add("  " + TimeText(Seconds(attempt.elapsed())));
  for (const auto& [name, value] : std::map<std::string, double>(attempt.metrics().begin(), attempt.metrics().end())) {
    line.Add(fmt::format("  {} {}", name, analysis::report::FormatNumber(value, 3)));
  }
  if (attempt.pack() > 1) line.Add(fmt::format("  pack of {}", attempt.pack()));
  return line.Add("  " + CellText(attempt.cell()), kFaint);
}

// At most `height` lines; the last of them counts what does not fit.
Lines Running(const v1::WatchSweepResponse& state, size_t height) {
  std::vector<const v1::RunningAttempt*> attempts;
  for (const v1::RunningAttempt& attempt : state.running()) attempts.push_back(&attempt);
  if (attempts.empty() || height < 2) return {};
  std::stable_sort(attempts.begin(), attempts.end(),
                   [](const auto* a, const auto* b) { return a->worker() < b->worker(); });
  const int64_t all = static_cast<int64_t>(attempts.size()) + state.running_left_out();
  Lines lines = {StyledLine(fmt::format("Running: {}{}", all, PacksText(state.running())), kBold)};
  size_t shown = height - 1;
  if (static_cast<int64_t>(shown) < all) --shown;
  shown = std::min(shown, attempts.size());
  for (size_t i = 0; i < shown; ++i)
    lines.push_back(RunningLine(*attempts[i], i > 0 && attempts[i]->worker() == attempts[i - 1]->worker()));
  if (static_cast<int64_t>(shown) < all)
    lines.emplace_back(fmt::format("  and {} more", all - static_cast<int64_t>(shown)), kFaint);
  return lines;
}

void Append(Lines& lines, const Lines& section) {
  if (section.empty()) return;
  lines.emplace_back();
  lines.insert(lines.end(), section.begin(), section.end());
}

}  // namespace

std::vector<StyledLine> WatchScreen(const WatchModel& model, int width, int height) {
  const auto most = static_cast<size_t>(std::max(1, height));
  const v1::WatchSweepResponse& state = model.progress.state();
  Lines lines = Head(model, width);
  // Without the footer, and each section with a blank line before it.
  size_t room = most > lines.size() + 1 ? most - lines.size() - 1 : 0;
  const auto take = [&](size_t wanted) {
    const size_t taken = std::min(wanted, room);
    room -= taken;
    return taken;
  };
  // What runs has a third of the room, or what the others leave; the best cells come before a map that is cut.
  const size_t running = take(std::min(static_cast<size_t>(state.running_size()) + 2, std::max<size_t>(4, room / 3)));
  Lines best = BestLines(model);
  if (best.size() + 1 > room) best.clear();
  const size_t kept = best.empty() ? 0 : take(best.size() + 1);
  if (room >= 5) {
    const Lines map = Map(model, width, static_cast<int>(room) - 1);
    Append(lines, map);
    if (!map.empty()) take(map.size() + 1);
  }
  if (kept > 0) Append(lines, best);
  if (running + room > 1) Append(lines, Running(state, running + room - 1));
  if (most > 1) {
    lines.resize(std::min(lines.size(), most - 1));
    StyledLine footer;
    if (!model.notice.empty()) footer.Add(model.notice + "  ", kBusy);
    while (lines.size() + 1 < most) lines.emplace_back();
    lines.push_back(footer.Add(kFooter, kFaint));
  }
  lines.resize(std::min(lines.size(), most));
  for (StyledLine& line : lines) line = line.ClippedTo(width);
  return lines;
}

std::vector<StyledLine> WatchSummary(const WatchModel& model, int width) {
  constexpr int kAnyHeight = 200;
  Lines lines = Head(model, width);
  Append(lines, Map(model, width, kAnyHeight));
  Append(lines, BestLines(model));
  for (StyledLine& line : lines) line = line.ClippedTo(width);
  return lines;
}

}  // namespace loupe::cli
