#include "cli/progress_view.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "analysis/report/number_format.h"
#include "cli/time_text.h"
#include "cli/views.h"
#include "fmt/format.h"

namespace loupe::cli {
namespace {

// Long enough to smooth trials that end in pairs, short enough to notice that workers joined or left.
constexpr absl::Duration kRateWindow = absl::Minutes(10);

std::string Metrics(const google::protobuf::Map<std::string, double>& metrics) {
  std::string text;
  for (const auto& [name, value] : std::map<std::string, double>(metrics.begin(), metrics.end())) {
    text += fmt::format("{}{} {}", text.empty() ? "" : "  ", name, analysis::report::FormatNumber(value, 3));
  }
  return text;
}

std::string Problems(const v1::TrialCounts& counts) {
  std::string text;
  if (counts.failed() > 0) text += fmt::format(", {} failed", counts.failed());
  if (counts.quarantined() > 0) text += fmt::format(", {} quarantined", counts.quarantined());
  if (counts.cancelled() > 0) text += fmt::format(", {} cancelled", counts.cancelled());
  return text;
}

}  // namespace

std::string RateText(double per_second) {
  if (per_second <= 0) return "";
  return per_second >= 1 ? fmt::format("{:.1f}/s", per_second) : fmt::format("{:.1f}/min", per_second * 60);
}

std::string PacksText(const google::protobuf::RepeatedPtrField<v1::RunningAttempt>& running) {
  struct Trials {
    int held = 0, together = 0;
  };
  std::map<std::string, Trials> workers;
  for (const v1::RunningAttempt& attempt : running) {
    Trials& its = workers[attempt.worker()];
    ++its.held;
    its.together = std::max(its.together, attempt.pack());
  }
  std::string sizes;
  for (const auto& [worker, its] : workers) {
    const int pack = its.together > 0 ? its.together : its.held;
    if (pack > 1) sizes += fmt::format("{}{}", sizes.empty() ? "" : ", ", pack);
  }
  return sizes.empty() ? "" : " in packs of " + sizes;
}

double EndedShare(const v1::TrialCounts& counts) {
  return counts.total() == 0 ? 0 : static_cast<double>(EndedTrials(counts)) / static_cast<double>(counts.total());
}

void ProgressView::Update(const v1::WatchSweepResponse& state, absl::Duration now) {
  state_ = state;
  const int64_t ended = EndedTrials(state.sweep().counts());
  // Going back (a retry) starts the measurement anew.
  if (!ended_.empty() && ended < ended_.back().second) ended_.clear();
  if (ended_.empty() || ended > ended_.back().second) ended_.emplace_back(now, ended);
  while (ended_.size() > 2 && ended_[1].first < now - kRateWindow) ended_.pop_front();
}

double ProgressView::TrialsPerSecond() const {
  if (ended_.size() < 2) return 0;
  const double seconds = absl::ToDoubleSeconds(ended_.back().first - ended_.front().first);
  return seconds <= 0 ? 0 : static_cast<double>(ended_.back().second - ended_.front().second) / seconds;
}

double ProgressView::SecondsLeft() const {
  const v1::Sweep& sweep = state_.sweep();
  if (sweep.has_estimated_time_left()) return Seconds(sweep.estimated_time_left());
  const double rate = TrialsPerSecond();
  if (rate <= 0) return -1;
  return static_cast<double>(sweep.counts().total() - EndedTrials(sweep.counts())) / rate;
}

std::string ProgressView::PlainLine() const {
  const v1::Sweep& sweep = state_.sweep();
  const v1::TrialCounts& counts = sweep.counts();
  std::string line = fmt::format("{}: {} of {} done ({:.0f} %), {} running{}{}", LastPart(sweep.name()),
                                 EndedTrials(counts), counts.total(), 100 * EndedShare(counts), counts.running(),
                                 PacksText(state_.running()), Problems(counts));
  if (const std::string rate = RateText(TrialsPerSecond()); !rate.empty()) line += ", " + rate;
  if (!IsTerminal(sweep.state())) {
    if (const double left = SecondsLeft(); left >= 0) line += fmt::format(", {} left", TimeText(left));
  }
  if (sweep.state() != v1::Sweep::ACTIVE) line += ", " + v1::Sweep::State_Name(sweep.state());
  if (!sweep.state_reason().empty()) line += fmt::format(" ({})", sweep.state_reason());
  for (const v1::WaitingTrials& waiting : sweep.waiting()) line += "; " + WaitingText(waiting);
  for (const v1::RunningAttempt& attempt : state_.running()) {
    if (attempt.metrics().empty()) continue;
    line += fmt::format("; trial {} {}", LastPart(attempt.trial()), AttemptText(attempt));
    line += ": " + Metrics(attempt.metrics());
    // One example is enough for a log.
    break;
  }
  return line;
}

}  // namespace loupe::cli
