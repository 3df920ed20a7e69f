#include "coordinator/api/view_api.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <type_traits>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "common/error_details.h"
#include "common/ids.h"
#include "common/score_table.h"
#include "common/status_macros.h"
#include "common/text.h"
#include "coordinator/api/convert.h"
#include "coordinator/api/curve_thinning.h"
#include "fmt/format.h"

namespace loupe::coordinator::api {
namespace {

constexpr int64_t kMostTableRows = 20000;
constexpr int64_t kPointsAtOnce = 50000;
constexpr int64_t kMostAttemptsOfATrial = 1000;
// Of a list in a report. More nobody reads on a page; the whole is RenderReport's.
constexpr size_t kMostReportEntries = 500;
// Clients take messages of at most 4 MiB.
constexpr size_t kMostReportBytes = 7 << 19;

// FAILED_PRECONDITION while it is being deleted: its rows go one after the other.
absl::StatusOr<scheduler::SweepRecord> Shown(store::StoreReader& store, const std::string& name) {
  LOUPE_ASSIGN_OR_RETURN(const SweepId id, SweepId::FromName(name));
  LOUPE_ASSIGN_OR_RETURN(scheduler::SweepRecord sweep, store.GetSweep(id.id()));
  if (sweep.has_job(scheduler::JobKind::kDelete))
    return absl::FailedPreconditionError(fmt::format("sweep '{}' is being deleted", id.id()));
  return sweep;
}

// As analysis_job.cc: the cells agree in it.
std::string PrimaryScoreOf(const plan::Plan& plan) {
  const settings::Settings settings = plan.CellSettings(0);
  return settings.Has("score.primary") ? settings.Text("score.primary") : "";
}

std::string TitleOf(const std::string& score) {
  const ScoreEntry* entry = FindScore(score);
  return entry == nullptr || IsUntunedScore(score) ? score : std::string(entry->title);
}

bool IsSmallerBetter(const std::string& score) {
  const ScoreEntry* entry = FindScore(score);
  return entry != nullptr && entry->better == Better::kSmaller;
}

template <typename T>
void AppendLittleEndian(std::string& column, T value) {
  using Bits = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
  auto bits = std::bit_cast<Bits>(value);
  for (size_t i = 0; i < sizeof(T); ++i, bits >>= 8) column += static_cast<char>(bits & 0xff);
}

v1::Attempt AttemptToProto(const store::AttemptRow& row) {
  v1::Attempt attempt;
  attempt.set_trial(fmt::format("sweeps/{}/trials/{}", row.sweep_id, row.trial.index));
  attempt.set_epoch(row.epoch);
  attempt.set_worker("workers/" + row.worker);
  attempt.set_outcome(static_cast<v1::Attempt::Outcome>(row.outcome));
  if (row.failure) {
    attempt.mutable_failure()->set_class_(static_cast<v1::Failure::Class>(row.failure->failure_class));
    attempt.mutable_failure()->set_message(row.failure->message);
  }
  SetTimestamp(row.start_time, attempt.mutable_start_time());
  if (row.end_time) SetTimestamp(*row.end_time, attempt.mutable_end_time());
  return attempt;
}

absl::StatusOr<std::vector<std::pair<int64_t, double>>> AllPoints(store::StoreReader& store, scheduler::TrialKey trial,
                                                                  int64_t epoch, const std::string& metric) {
  std::vector<std::pair<int64_t, double>> all;
  std::optional<store::PointPosition> after;
  for (;;) {
    LOUPE_ASSIGN_OR_RETURN(const std::vector<scheduler::MetricPoint> points,
                           store.ListPoints(trial, epoch, metric, after, kPointsAtOnce));
    for (const scheduler::MetricPoint& point : points) all.emplace_back(point.step, point.value);
    if (static_cast<int64_t>(points.size()) < kPointsAtOnce) return all;
    after = store::PointPosition{metric, points.back().step};
  }
}

// From name to name, whatever the number of their points.
absl::StatusOr<std::vector<std::string>> MetricsOf(store::StoreReader& store, scheduler::TrialKey trial,
                                                   int64_t epoch) {
  std::vector<std::string> names;
  std::optional<store::PointPosition> after;
  for (;;) {
    LOUPE_ASSIGN_OR_RETURN(const std::vector<scheduler::MetricPoint> points,
                           store.ListPoints(trial, epoch, "", after, 1));
    if (points.empty()) return names;
    names.push_back(points.front().metric);
    after = store::PointPosition{names.back(), std::numeric_limits<int64_t>::max()};
  }
}

// `most` of `all`, evenly spread, the first and the last among them.
std::vector<int64_t> EvenlyChosen(const std::vector<int64_t>& all, int64_t most) {
  const auto size = static_cast<int64_t>(all.size());
  if (size <= most) return all;
  std::vector<int64_t> chosen;
  for (int64_t i = 0; i < most; ++i)
    chosen.push_back(all[static_cast<size_t>(most == 1 ? 0 : i * (size - 1) / (most - 1))]);
  return chosen;
}

void CutLongLists(nlohmann::ordered_json& json, const std::string& path, v1::GetReportResponse& response) {
  if (json.is_array() && json.size() > kMostReportEntries) {
    (*response.mutable_left_out())[path] = static_cast<int64_t>(json.size() - kMostReportEntries);
    json.erase(json.begin() + kMostReportEntries, json.end());
  }
  if (!json.is_structured()) return;
  for (auto& [key, value] : json.items())
    CutLongLists(value, json.is_array() ? path : path.empty() ? key : fmt::format("{}.{}", path, key), response);
}

absl::Status FillReport(const std::string& payload, v1::GetReportResponse& response) {
  nlohmann::ordered_json report = nlohmann::ordered_json::parse(payload, nullptr, /*allow_exceptions=*/false);
  if (report.is_discarded()) return absl::InternalError("the report is no JSON");
  CutLongLists(report, "", response);
  *response.mutable_json() = report.dump();
  if (response.json().size() <= kMostReportBytes) return absl::OkStatus();
  return absl::ResourceExhaustedError("the report is too large for one answer: ask AnalysisService.RenderReport");
}

}  // namespace

absl::Status ViewApi::Digest(const v1::GetSweepDigestRequest& request, v1::SweepDigest& response) {
  LOUPE_ASSIGN_OR_RETURN(const scheduler::SweepRecord sweep, Shown(*backend_.store, request.name()));
  std::string score = request.score();
  if (score.empty()) {
    LOUPE_ASSIGN_OR_RETURN(const std::shared_ptr<const plan::Plan> plan, backend_.plans->Get(sweep));
    score = PrimaryScoreOf(*plan);
  }
  response.set_score(score);
  response.set_score_title(TitleOf(score));
  response.set_smaller_is_better(IsSmallerBetter(score));
  LOUPE_ASSIGN_OR_RETURN(const store::ScoreSummary summary,
                         backend_.store->SummariseScore(sweep.key, score, response.smaller_is_better()));
  response.set_results(summary.results);
  if (summary.results > 0) {
    response.set_best(summary.best);
    response.set_best_trial(fmt::format("sweeps/{}/trials/{}", sweep.id, summary.best_trial));
    response.set_mean(summary.mean);
  }
  const absl::Time now = backend_.clock->WallNow();
  LOUPE_ASSIGN_OR_RETURN(const int64_t lately, backend_.store->CountAcceptedSince(sweep.key, now - absl::Minutes(10)));
  LOUPE_ASSIGN_OR_RETURN(const int64_t hour, backend_.store->CountAcceptedSince(sweep.key, now - absl::Hours(1)));
  response.set_accepted_10_minutes(lately);
  response.set_accepted_hour(hour);
  return absl::OkStatus();
}

absl::Status ViewApi::Table(const v1::GetTrialTableRequest& request, v1::GetTrialTableResponse& response) {
  LOUPE_ASSIGN_OR_RETURN(const int64_t limit, PageSize(request.page_size(), kMostTableRows, kMostTableRows));
  const std::string request_key = "GetTrialTable " + request.parent();
  LOUPE_ASSIGN_OR_RETURN(const std::string position, ReadPageToken(request.page_token(), request_key));
  int64_t first = request.first_index();
  if (!position.empty() && !absl::SimpleAtoi(position, &first))
    return absl::InvalidArgumentError("page_token is damaged");
  if (first < 0) return absl::InvalidArgumentError("first_index is negative; expected the index of a trial");
  LOUPE_ASSIGN_OR_RETURN(const scheduler::SweepRecord sweep, Shown(*backend_.store, request.parent()));
  LOUPE_ASSIGN_OR_RETURN(const std::shared_ptr<const plan::Plan> plan, backend_.plans->Get(sweep));
  LOUPE_ASSIGN_OR_RETURN(const store::TrialColumns columns, backend_.store->ReadColumns(sweep.key, first, limit));

  const size_t factors = plan->factors().size();
  const bool any_stopped = std::any_of(columns.stopped_at_steps.begin(), columns.stopped_at_steps.end(),
                                       [](uint32_t step) { return step > 0; });
  const size_t row_bytes = 17 + sizeof(uint32_t) * factors + sizeof(double) * columns.scores.size();
  const size_t rows = std::min(columns.states.size(), kPageBytes / row_bytes + 1);
  response.set_total(sweep.trials());
  response.set_first_index(first);
  response.set_rows(static_cast<int32_t>(rows));
  response.set_primary_score(PrimaryScoreOf(*plan));
  std::vector<int64_t> cells(rows);
  for (size_t row = 0; row < rows; ++row) {
    const int64_t index = first + static_cast<int64_t>(row);
    cells[row] = scheduler::CellOf(sweep, index);
    *response.mutable_states() += static_cast<char>(columns.states[row]);
    AppendLittleEndian(*response.mutable_cells(), static_cast<uint32_t>(cells[row]));
    AppendLittleEndian(*response.mutable_replicates(), static_cast<uint32_t>(index / sweep.cells));
    AppendLittleEndian(*response.mutable_seconds(), columns.seconds[row]);
    if (any_stopped) AppendLittleEndian(*response.mutable_stopped_at_steps(), columns.stopped_at_steps[row]);
  }
  for (size_t factor = 0; factor < factors; ++factor) {
    v1::GetTrialTableResponse::Factor* added = response.add_factors();
    added->set_name(plan->FactorName(factor));
    added->set_key(plan->factors()[factor].key);
    for (const std::string& level : plan->factors()[factor].levels) added->add_levels(level);
    for (const int64_t cell : cells)
      AppendLittleEndian(*added->mutable_column(), static_cast<uint32_t>(plan->LevelIndex(cell, factor)));
  }
  for (const auto& [name, values] : columns.scores) {
    v1::GetTrialTableResponse::Score* added = response.add_scores();
    added->set_name(name);
    added->set_title(TitleOf(name));
    added->set_smaller_is_better(IsSmallerBetter(name));
    for (size_t row = 0; row < rows; ++row) AppendLittleEndian(*added->mutable_column(), values[row]);
  }
  const int64_t next = rows == 0 ? sweep.trials() : first + static_cast<int64_t>(rows);
  if (next < sweep.trials()) response.set_next_page_token(MakePageToken(fmt::format("{}", next), request_key));
  return absl::OkStatus();
}

absl::Status ViewApi::Curves(const v1::GetCurvesRequest& request, v1::GetCurvesResponse& response) {
  LOUPE_ASSIGN_OR_RETURN(const int64_t points, PageSize(request.max_points(), 200, 2000));
  LOUPE_ASSIGN_OR_RETURN(const int64_t curves, PageSize(request.max_curves(), 200, 1000));
  LOUPE_ASSIGN_OR_RETURN(const scheduler::SweepRecord sweep, Shown(*backend_.store, request.parent()));
  store::StoreReader& store = *backend_.store;
  std::vector<int64_t> trials(request.trials().begin(), request.trials().end());
  if (trials.empty()) {
    LOUPE_ASSIGN_OR_RETURN(trials, store.FindTrials(sweep.key, {TrialState::kRunning, TrialState::kSucceeded,
                                                                TrialState::kFailed, TrialState::kQuarantined}));
  }
  response.set_candidates(static_cast<int64_t>(trials.size()));
  std::string metric = request.metric();
  size_t bytes = 0;
  for (const int64_t index : EvenlyChosen(trials, curves)) {
    const scheduler::TrialKey key{sweep.key, index};
    LOUPE_ASSIGN_OR_RETURN(const store::TrialRow trial, store.GetTrial(key));
    if (response.metrics().empty()) {
      LOUPE_ASSIGN_OR_RETURN(const std::vector<std::string> names, MetricsOf(store, key, trial.epoch));
      for (const std::string& name : names) response.add_metrics(name);
      // What is optimised is what one looks at first.
      if (metric.empty() && !names.empty())
        metric = std::find(names.begin(), names.end(), "loss") != names.end() ? "loss" : names.front();
    }
    if (metric.empty()) continue;
    LOUPE_ASSIGN_OR_RETURN(const auto all, AllPoints(store, key, trial.epoch, metric));
    if (all.empty()) continue;
    const ThinCurve thin = Thin(all, points);
    bytes += sizeof(double) * (thin.steps.size() + thin.means.size() + thin.lows.size() + thin.highs.size());
    if (bytes > kPageBytes) break;
    v1::GetCurvesResponse::Curve* added = response.add_curves();
    added->set_trial(index);
    added->set_state(static_cast<v1::Trial::State>(trial.state));
    added->set_points(static_cast<int64_t>(all.size()));
    added->mutable_steps()->Add(thin.steps.begin(), thin.steps.end());
    added->mutable_means()->Add(thin.means.begin(), thin.means.end());
    added->mutable_lows()->Add(thin.lows.begin(), thin.lows.end());
    added->mutable_highs()->Add(thin.highs.begin(), thin.highs.end());
  }
  response.set_metric(metric);
  return absl::OkStatus();
}

absl::Status ViewApi::Attempts(const v1::ListAttemptsRequest& request, v1::ListAttemptsResponse& response) {
  store::AttemptFilter filter;
  LOUPE_ASSIGN_OR_RETURN(filter.limit, PageSize(request.page_size(), 1000, 5000));
  if (request.has_since())
    filter.ended_after = absl::FromUnixSeconds(request.since().seconds()) + absl::Nanoseconds(request.since().nanos());
  const std::string request_key = fmt::format("ListAttempts {} {}", request.parent(), request.since().seconds());
  if (const absl::StatusOr<TrialId> trial = TrialId::FromName(request.parent()); trial.ok()) {
    LOUPE_ASSIGN_OR_RETURN(const scheduler::SweepRecord sweep, Shown(*backend_.store, trial->sweep().name()));
    filter.sweep = sweep.key;
    filter.trial = trial->index();
  } else if (!request.parent().empty()) {
    LOUPE_ASSIGN_OR_RETURN(const scheduler::SweepRecord sweep, Shown(*backend_.store, request.parent()));
    filter.sweep = sweep.key;
  }
  // "start sweep trial epoch" of the last one.
  LOUPE_ASSIGN_OR_RETURN(const std::string position, ReadPageToken(request.page_token(), request_key));
  if (!position.empty()) {
    const std::vector<std::string> parts = absl::StrSplit(position, ' ');
    store::AttemptFilter::Position after;
    int64_t start_us = 0;
    if (parts.size() != 4 || !absl::SimpleAtoi(parts[0], &start_us) ||
        !absl::SimpleAtoi(parts[1], &after.trial.sweep) || !absl::SimpleAtoi(parts[2], &after.trial.index) ||
        !absl::SimpleAtoi(parts[3], &after.epoch)) {
      return absl::InvalidArgumentError("page_token is damaged");
    }
    after.start_time = absl::FromUnixMicros(start_us);
    filter.after = after;
  }
  LOUPE_ASSIGN_OR_RETURN(const std::vector<store::AttemptRow> attempts, backend_.store->ListAttempts(filter));
  size_t bytes = 0;
  bool full = static_cast<int64_t>(attempts.size()) == filter.limit;
  const store::AttemptRow* last = nullptr;
  for (const store::AttemptRow& attempt : attempts) {
    if (bytes > kPageBytes) {
      full = true;
      break;
    }
    v1::Attempt* added = response.add_attempts();
    *added = AttemptToProto(attempt);
    bytes += added->ByteSizeLong();
    last = &attempt;
  }
  if (full) {
    response.set_next_page_token(MakePageToken(fmt::format("{} {} {} {}", absl::ToUnixMicros(last->start_time),
                                                           last->trial.sweep, last->trial.index, last->epoch),
                                               request_key));
  }
  return absl::OkStatus();
}

absl::Status ViewApi::Details(const v1::GetTrialDetailsRequest& request, v1::TrialDetails& response) {
  LOUPE_ASSIGN_OR_RETURN(const TrialId id, TrialId::FromName(request.name()));
  LOUPE_ASSIGN_OR_RETURN(const scheduler::SweepRecord sweep, Shown(*backend_.store, id.sweep().name()));
  LOUPE_ASSIGN_OR_RETURN(const std::shared_ptr<const plan::Plan> plan, backend_.plans->Get(sweep));
  const scheduler::TrialKey key{sweep.key, id.index()};
  LOUPE_ASSIGN_OR_RETURN(const store::TrialRow trial, backend_.store->GetTrial(key));
  *response.mutable_trial() = ToProto(sweep, trial);
  const settings::Settings settings = plan->CellSettings(trial.cell_index);
  for (const auto& [name, value] : settings.values()) (*response.mutable_settings())[name] = value;
  response.set_sweep_seed(sweep.seed);
  store::AttemptFilter filter;
  filter.sweep = sweep.key;
  filter.trial = id.index();
  filter.limit = kMostAttemptsOfATrial;
  LOUPE_ASSIGN_OR_RETURN(const std::vector<store::AttemptRow> attempts, backend_.store->ListAttempts(filter));
  for (auto attempt = attempts.rbegin(); attempt != attempts.rend(); ++attempt)
    *response.add_attempts() = AttemptToProto(*attempt);
  using Provenance = std::map<std::string, std::string>;
  LOUPE_ASSIGN_OR_RETURN(const Provenance provenance, backend_.store->GetProvenance(key));
  for (const auto& [name, value] : provenance) (*response.mutable_provenance())[ToUtf8(name)] = ToUtf8(value);
  return absl::OkStatus();
}

void ViewApi::GetSweepDigest(UnaryCall* call, const v1::GetSweepDigestRequest& request, v1::SweepDigest* response) {
  Serve(backend_, call, access::Role::kViewer, request, [=, this, &request] { return Digest(request, *response); });
}

void ViewApi::GetTrialTable(UnaryCall* call, const v1::GetTrialTableRequest& request,
                            v1::GetTrialTableResponse* response) {
  Serve(backend_, call, access::Role::kViewer, request, [=, this, &request] { return Table(request, *response); });
}

void ViewApi::GetCurves(UnaryCall* call, const v1::GetCurvesRequest& request, v1::GetCurvesResponse* response) {
  Serve(backend_, call, access::Role::kViewer, request, [=, this, &request] { return Curves(request, *response); });
}

void ViewApi::ListAttempts(UnaryCall* call, const v1::ListAttemptsRequest& request,
                           v1::ListAttemptsResponse* response) {
  Serve(backend_, call, access::Role::kViewer, request, [=, this, &request] { return Attempts(request, *response); });
}

void ViewApi::GetTrialDetails(UnaryCall* call, const v1::GetTrialDetailsRequest& request, v1::TrialDetails* response) {
  Serve(backend_, call, access::Role::kViewer, request, [=, this, &request] { return Details(request, *response); });
}

void ViewApi::GetReport(UnaryCall* call, const v1::RenderReportRequest& request, v1::GetReportResponse* response) {
  if (!Enter(backend_, call, access::Role::kViewer, access::CallKind::kUnary, request)) return;
  const std::shared_ptr<AnalysisCancellation> cancellation = analysis_.NewCancellation();
  call->SetOnCancel([cancellation] { cancellation->Cancel(); });
  RunLater(backend_, call, [this, call, &request, response, cancellation] {
    v1::RenderReportRequest as_json = request;
    as_json.set_format(v1::RenderReportRequest::JSON);
    analysis_.RenderReport(call->open()->client(), as_json, *cancellation,
                           [call, response](const AnalysisApi::Answer& answer) {
                             RunNow(call, [&] {
                               absl::Status status = answer->status;
                               if (status.ok()) status = FillReport(answer->payload, *response);
                               call->Answer(status);
                             });
                           });
  });
}

}  // namespace loupe::coordinator::api
