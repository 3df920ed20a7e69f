#include "coordinator/api/sweep_api.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/numbers.h"
#include "analysis/stats/power.h"
#include "common/error_details.h"
#include "common/ids.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "coordinator/api/convert.h"
#include "coordinator/api/plan_estimate.h"
#include "coordinator/api/sweep_request.h"
#include "coordinator/engine/levels_json.h"
#include "coordinator/engine/trial_needs.h"
#include "coordinator/plan/plan_summary.h"
#include "coordinator/plan_proto/spec_proto.h"
#include "fmt/format.h"

namespace loupe::coordinator::api {
namespace {

// What runs in a message of at most 4 MiB: some thousands of attempts.
constexpr size_t kMaxRunningBytes = 1 << 20;

absl::StatusOr<v1::PlanSummary> Summarise(const plan::Plan& plan) {
  LOUPE_ASSIGN_OR_RETURN(const plan::PlanOutlook outlook, plan::Outlook(plan));
  v1::PlanSummary summary;
  summary.set_cells(plan.cell_count());
  summary.set_trials(plan.trial_count());
  for (const plan::TermOutlook& term : outlook.terms) {
    v1::TermSummary* added = summary.add_terms();
    added->set_term(term.title());
    added->set_levels(term.levels);
    added->set_df(term.df);
    added->set_aliased_df(term.aliased_df());
    added->set_note(term.note);
    const analysis::stats::FTestPlan test{.df = static_cast<double>(term.df),
                                          .residual_df = static_cast<double>(outlook.residual_df),
                                          .n = static_cast<double>(plan.trial_count())};
    if (term.df < 1 || outlook.residual_df < 1) continue;
    added->set_detectable_f(analysis::stats::MinimumDetectableF(test));
    added->set_medium_power(analysis::stats::FTestPower(test, 0.25));
  }
  summary.set_residual_df(outlook.residual_df);
  for (const std::string& note : outlook.notes) summary.add_notes(note);
  return summary;
}

scheduler::RetryLimits LimitsOf(const plan::RetryPolicySpec& spec) {
  scheduler::RetryLimits limits;
  if (spec.max_trial_attempts > 0) limits.max_trial_attempts = spec.max_trial_attempts;
  if (spec.max_worker_losses > 0) limits.max_worker_losses = spec.max_worker_losses;
  if (spec.backoff > absl::ZeroDuration()) limits.backoff = spec.backoff;
  limits.max_failed_trials = spec.max_failed_trials;
  return limits;
}

// Which trials nobody who is connected could run. Without any worker there is nothing to say yet.
absl::Status NoteWhatWouldWait(engine::EngineThread& engine, const plan::Plan& plan,
                               const std::shared_ptr<const scheduler::SweepNeeds>& needs, v1::PlanSummary& summary) {
  using Reasons = std::vector<std::string>;
  LOUPE_ASSIGN_OR_RETURN(const Reasons reasons,
                         engine.Call<Reasons>([needs](scheduler::Scheduler& scheduler, const scheduler::Now& now,
                                                      scheduler::Effects&) -> absl::StatusOr<Reasons> {
                           Reasons made;
                           if (scheduler.WhyNobodyRuns(scheduler::TrialNeeds(), now).empty()) {
                             for (const scheduler::TrialNeeds& one : needs->classes)
                               made.push_back(scheduler.WhyNobodyRuns(one, now));
                           }
                           return made;
                         }));
  for (size_t i = 0; i < reasons.size(); ++i) {
    if (reasons[i].empty()) continue;
    const auto& classes = needs->class_of_cell;
    const int64_t cells =
        classes.empty() ? plan.cell_count() : std::count(classes.begin(), classes.end(), static_cast<uint8_t>(i));
    v1::WaitingTrials* added = summary.add_waiting();
    added->set_trials(cells * plan.spec().replicates);
    added->set_reason(reasons[i]);
  }
  return absl::OkStatus();
}

// Right after its creation a large sweep still gets its trials: what is asked of it then is meant for the whole of it.
// What is wrong with the name, or the sweep, is the body's to say; so is that its creation does not go on.
Gate WhenCreated(engine::EngineThread& engine, const std::string& name) {
  return [&engine, name](const std::function<void(const absl::Status&)>& open) {
    const absl::StatusOr<SweepId> id = SweepId::FromName(name);
    if (!id.ok()) return open(absl::OkStatus());
    engine.Submit(engine::WatchCall{id->id(), [open](const absl::StatusOr<engine::WatchUpdate>& update) {
                                      const bool waits =
                                          update.ok() &&
                                          update->sweep.shown_state() == scheduler::SweepState::kCreating &&
                                          update->sweep.state_reason.empty();
                                      if (!waits)
                                        open(absl::IsNotFound(update.status()) ? absl::OkStatus() : update.status());
                                      return waits;
                                    }});
  };
}

}  // namespace

absl::StatusOr<v1::Sweep> SweepApi::View(const std::string& sweep_id) {
  struct Seen {
    scheduler::SweepRecord record;
    scheduler::TrialCounts counts;
    std::optional<absl::Duration> estimated_time_left;
    std::vector<scheduler::WaitingTrials> waiting;
  };
  // The specification is parsed here, not on the engine's thread: it may be large.
  LOUPE_ASSIGN_OR_RETURN(
      const Seen seen, backend_.engine->Call<Seen>([=](scheduler::Scheduler& scheduler, const scheduler::Now& now,
                                                       scheduler::Effects&) -> absl::StatusOr<Seen> {
        LOUPE_ASSIGN_OR_RETURN(const scheduler::Scheduler::SweepView view, scheduler.View(sweep_id, now));
        return Seen{*view.record, view.counts, view.estimated_time_left, view.waiting};
      }));
  return ToProto(seen.record, seen.counts, seen.estimated_time_left, seen.waiting, /*with_spec=*/true);
}

absl::Status SweepApi::Create(const v1::CreateSweepRequest& request, const std::string& client,
                              const std::string& traceparent, v1::CreateSweepResponse& response) {
  LOUPE_ASSIGN_OR_RETURN(SweepRequest asked, ReadSweepRequest(request));
  const auto plan = std::make_shared<const plan::Plan>(std::move(asked.plan));
  const std::string token = ToHex(backend_.random->NextToken());
  const std::string id = asked.sweep_id.empty() ? "sweep-" + token.substr(0, 12) : asked.sweep_id;
  if (absl::Status valid = SweepId::FromId(id).status(); !valid.ok()) {
    return WithFieldViolations(valid, {{"sweep_id", std::string(valid.message())}});
  }
  LOUPE_ASSIGN_OR_RETURN(*response.mutable_plan(), Summarise(*plan));
  const std::shared_ptr<const scheduler::SweepNeeds> needs = engine::NeedsOf(*plan);
  LOUPE_RETURN_IF_ERROR(NoteWhatWouldWait(*backend_.engine, *plan, needs, *response.mutable_plan()));
  if (request.validate_only()) {
    LOUPE_ASSIGN_OR_RETURN(const PlanEstimate estimate, EstimatePlan(backend_, *plan));
    v1::PlanSummary& summary = *response.mutable_plan();
    if (estimate.duration) SetDuration(*estimate.duration, summary.mutable_estimated_duration());
    summary.set_estimate_basis(estimate.basis);
    summary.set_estimated_trial_seconds(estimate.trial_seconds);
    summary.set_estimated_gpus(estimate.gpus);
    *response.mutable_spec() = plan_proto::SpecToProto(plan->spec());
    response.set_sweep_id(asked.sweep_id);
    return absl::OkStatus();
  }

  scheduler::SweepRecord record;
  record.id = id;
  record.uid = ToUuid4(backend_.random->NextToken());
  record.display_name = plan->spec().display_name;
  record.spec = DeterministicBytes(plan_proto::SpecToProto(plan->spec()));
  record.cells = plan->cell_count();
  record.replicates = plan->spec().replicates;
  record.seed = plan->spec().seed;
  record.priority = plan->spec().priority;
  record.limits = LimitsOf(plan->spec().retry);
  const std::string fingerprint = Sha256Hex(request.sweep_id() + "\n" + record.spec);
  const auto levels = [plan](int64_t cell) { return engine::LevelsJson(plan->CellLevels(cell)); };
  // Before the sweep is there: its trials may be leased, and its job resumed, at once.
  backend_.plans->Put(record, plan);
  if (const auto context = loupe::trace::ParseTraceparent(traceparent); context && backend_.traces != nullptr)
    backend_.traces->Keep(record.uid, *context);
  const absl::StatusOr<scheduler::SweepRecord> created = backend_.engine->Call<scheduler::SweepRecord>(
      [=, request_id = request.request_id()](scheduler::Scheduler& scheduler, const scheduler::Now& now,
                                             scheduler::Effects& effects) {
        return scheduler.OnCreate(record, levels, request_id, fingerprint, now, effects, client, needs);
      });
  // Refused, or a repetition, which is answered with the sweep that is there.
  if (backend_.traces != nullptr && (!created.ok() || created->uid != record.uid)) backend_.traces->Forget(record.uid);
  LOUPE_RETURN_IF_ERROR(created.status());
  LOUPE_ASSIGN_OR_RETURN(*response.mutable_sweep(), View(created->id));
  return absl::OkStatus();
}

absl::Status SweepApi::List(const v1::ListSweepsRequest& request, v1::ListSweepsResponse& response) {
  LOUPE_ASSIGN_OR_RETURN(const int64_t size, PageSize(request.page_size(), 50, 1000));
  LOUPE_ASSIGN_OR_RETURN(const std::string position, ReadPageToken(request.page_token(), "ListSweeps"));
  scheduler::SweepKey before = 0;
  if (!position.empty() && !absl::SimpleAtoi(position, &before))
    return absl::InvalidArgumentError("page_token is damaged");
  LOUPE_ASSIGN_OR_RETURN(const std::vector<scheduler::SweepRecord> sweeps, backend_.store->ListSweeps(before, size));
  // At one go, and without the specifications: a list shows none of them.
  LOUPE_ASSIGN_OR_RETURN(const std::vector<v1::Sweep> views,
                         backend_.engine->Call<std::vector<v1::Sweep>>(
                             [&sweeps](scheduler::Scheduler& scheduler, const scheduler::Now& now,
                                       scheduler::Effects&) -> absl::StatusOr<std::vector<v1::Sweep>> {
                               std::vector<v1::Sweep> made;
                               for (const scheduler::SweepRecord& sweep : sweeps) {
                                 const absl::StatusOr<scheduler::Scheduler::SweepView> view =
                                     scheduler.View(sweep.id, now);
                                 if (!view.ok()) continue;  // deleted in between
                                 made.push_back(ToProto(*view->record, view->counts, view->estimated_time_left,
                                                        view->waiting, /*with_spec=*/false));
                               }
                               return made;
                             }));
  for (const v1::Sweep& view : views) *response.add_sweeps() = view;
  if (static_cast<int64_t>(sweeps.size()) == size) {
    response.set_next_page_token(MakePageToken(fmt::format("{}", sweeps.back().key), "ListSweeps"));
  }
  return absl::OkStatus();
}

absl::Status SweepApi::Retry(const v1::RetryTrialsRequest& request, const std::string& client,
                             v1::RetryTrialsResponse& response) {
  LOUPE_ASSIGN_OR_RETURN(const SweepId id, SweepId::FromName(request.name()));
  std::set<TrialState> states;
  if (request.failed()) states.insert(TrialState::kFailed);
  if (request.quarantined()) states.insert(TrialState::kQuarantined);
  if (request.cancelled()) states.insert(TrialState::kCancelled);
  if (states.empty()) states = {TrialState::kFailed, TrialState::kQuarantined};
  std::function<bool(int64_t)> matches;
  std::string filter;
  if (request.cell_size() > 0) {
    LOUPE_ASSIGN_OR_RETURN(const scheduler::SweepRecord sweep, backend_.store->GetSweep(id.id()));
    LOUPE_ASSIGN_OR_RETURN(const std::shared_ptr<const plan::Plan> plan, backend_.plans->Get(sweep));
    const std::map<std::string, std::string> wanted(request.cell().begin(), request.cell().end());
    // Here, and not on the engine's thread, each cell is looked at.
    LOUPE_ASSIGN_OR_RETURN(std::vector<bool> matching, engine::MatchingCells(*plan, wanted));
    matches = [matching = std::move(matching)](int64_t cell) { return matching[static_cast<size_t>(cell)]; };
    filter = engine::LevelsJson(wanted);
  }
  const std::string fingerprint = Sha256Hex(DeterministicBytes(request));
  LOUPE_ASSIGN_OR_RETURN(const int64_t retried, backend_.engine->Call<int64_t>([=, request_id = request.request_id()](
                                                                                   scheduler::Scheduler& scheduler,
                                                                                   const scheduler::Now& now,
                                                                                   scheduler::Effects& effects) {
    return scheduler.OnRetry(id.id(), states, matches, request_id, fingerprint, now, effects, filter, client);
  }));
  response.set_retried(retried);
  LOUPE_ASSIGN_OR_RETURN(*response.mutable_sweep(), View(id.id()));
  return absl::OkStatus();
}

void SweepApi::Verb(UnaryCall* call, const v1::SweepVerbRequest& request, scheduler::SweepVerb verb,
                    v1::Sweep& response) {
  ServeChange(
      backend_, call, access::Role::kSubmitter, scheduler::NameOf(verb), request.name(), request,
      [this, &request, verb, &response](const access::Caller&, const std::string& client) -> absl::Status {
        LOUPE_ASSIGN_OR_RETURN(const SweepId id, SweepId::FromName(request.name()));
        LOUPE_RETURN_IF_ERROR(
            backend_.engine
                ->Call<scheduler::SweepRecord>([=, etag = request.etag()](scheduler::Scheduler& scheduler,
                                                                          const scheduler::Now& now,
                                                                          scheduler::Effects& effects) {
                  return scheduler.OnVerb(id.id(), verb, etag, now, effects, client);
                })
                .status());
        LOUPE_ASSIGN_OR_RETURN(response, View(id.id()));
        return absl::OkStatus();
      },
      WhenCreated(*backend_.engine, request.name()));
}

void SweepApi::CreateSweep(UnaryCall* call, const v1::CreateSweepRequest& request, v1::CreateSweepResponse* response) {
  ServeChange(backend_, call, request.validate_only() ? access::Role::kViewer : access::Role::kSubmitter, "created",
              request.sweep_id(), request,
              [=, this, &request](const access::Caller& caller, const std::string& client) {
                const absl::Status status = Create(request, client, call->origin().traceparent, *response);
                // The log has the request's name for it, and this one's was in its file, or drawn.
                if (request.sweep_id().empty() && response->has_sweep()) {
                  Audit(backend_, caller, "created", response->sweep().name(), status);
                }
                return status;
              });
}

void SweepApi::GetSweep(UnaryCall* call, const v1::GetSweepRequest& request, v1::Sweep* response) {
  Serve(backend_, call, access::Role::kViewer, request, [=, this, &request]() -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(const SweepId id, SweepId::FromName(request.name()));
    LOUPE_ASSIGN_OR_RETURN(*response, View(id.id()));
    return absl::OkStatus();
  });
}

void SweepApi::ListSweeps(UnaryCall* call, const v1::ListSweepsRequest& request, v1::ListSweepsResponse* response) {
  Serve(backend_, call, access::Role::kViewer, request, [=, this, &request] { return List(request, *response); });
}

void SweepApi::DeleteSweep(UnaryCall* call, const v1::DeleteSweepRequest& request, v1::DeleteSweepResponse*) {
  ServeChange(backend_, call, access::Role::kSubmitter, "deleted", request.name(), request,
              [this, &request](const access::Caller&, const std::string& client) -> absl::Status {
                LOUPE_ASSIGN_OR_RETURN(const SweepId id, SweepId::FromName(request.name()));
                const absl::StatusOr<scheduler::SweepRecord> sweep = backend_.store->GetSweep(id.id());
                LOUPE_RETURN_IF_ERROR(backend_.engine
                                          ->Call<bool>([=, force = request.force(), etag = request.etag()](
                                                           scheduler::Scheduler& scheduler, const scheduler::Now& now,
                                                           scheduler::Effects& effects) -> absl::StatusOr<bool> {
                                            LOUPE_RETURN_IF_ERROR(
                                                scheduler.OnDelete(id.id(), force, etag, now, effects, client));
                                            return true;
                                          })
                                          .status());
                // Logs that a crash between the two leaves are removed at the next start.
                if (sweep.ok() && backend_.logs != nullptr) backend_.logs->Forget(sweep->uid);
                return absl::OkStatus();
              });
}

void SweepApi::PauseSweep(UnaryCall* call, const v1::SweepVerbRequest& request, v1::Sweep* response) {
  Verb(call, request, scheduler::SweepVerb::kPause, *response);
}

void SweepApi::ResumeSweep(UnaryCall* call, const v1::SweepVerbRequest& request, v1::Sweep* response) {
  Verb(call, request, scheduler::SweepVerb::kResume, *response);
}

void SweepApi::StopSweep(UnaryCall* call, const v1::SweepVerbRequest& request, v1::Sweep* response) {
  Verb(call, request, scheduler::SweepVerb::kStop, *response);
}

void SweepApi::CancelSweep(UnaryCall* call, const v1::SweepVerbRequest& request, v1::Sweep* response) {
  Verb(call, request, scheduler::SweepVerb::kCancel, *response);
}

void SweepApi::RetryTrials(UnaryCall* call, const v1::RetryTrialsRequest& request, v1::RetryTrialsResponse* response) {
  ServeChange(backend_, call, access::Role::kSubmitter, "retried", request.name(), request,
              [=, this, &request](const access::Caller&, const std::string& client) {
                return Retry(request, client, *response);
              });
}

SweepApi::News SweepApi::NewsOf(const engine::WatchUpdate& update) const {
  News news;
  *news.message.mutable_sweep() =
      ToProto(update.sweep, update.counts, update.estimated_time_left, update.waiting, /*with_spec=*/false);
  news.last = scheduler::IsTerminal(update.sweep.shown_state());
  // On the engine's thread, which makes no plans: what runs is shown again when somebody has made it.
  const std::shared_ptr<const plan::Plan> plan = backend_.plans->Find(update.sweep.uid);
  if (plan == nullptr) return news;
  size_t bytes = 0;
  for (const scheduler::RunningAttempt& attempt : update.running) {
    if (bytes > kMaxRunningBytes) {
      news.message.set_running_left_out(static_cast<int64_t>(update.running.size()) - news.message.running_size());
      break;
    }
    v1::RunningAttempt* added = news.message.add_running();
    *added = ToProto(update.sweep, attempt, *plan);
    bytes += added->ByteSizeLong();
  }
  return news;
}

absl::Status SweepApi::WatchSweep(const std::string& client, const v1::WatchSweepRequest& request, OnNews on_news) {
  LOUPE_ASSIGN_OR_RETURN(const SweepId sweep_id, SweepId::FromName(request.name()));
  const auto watch = [this, on_news, id = sweep_id.id()] {
    backend_.engine->Submit(engine::WatchCall{id, [this, on_news](const absl::StatusOr<engine::WatchUpdate>& update) {
                                                if (!update.ok()) return on_news(update.status());
                                                News news;
                                                const absl::Status made = Guarded([&] { news = NewsOf(*update); });
                                                const bool last = !made.ok() || news.last;
                                                const bool more =
                                                    on_news(made.ok() ? absl::StatusOr<News>(std::move(news)) : made);
                                                return more && !last;
                                              }});
  };
  if (backend_.plans->Knows(sweep_id.id())) {
    watch();
    return absl::OkStatus();
  }
  RunOnPool(
      backend_, client,
      [this, watch, id = sweep_id.id()] {
        if (const auto sweep = backend_.store->GetSweep(id); sweep.ok())
          backend_.plans->Get(*sweep).status().IgnoreError();
        watch();
      },
      [on_news](const absl::Status& failed) { on_news(failed); });
  return absl::OkStatus();
}

}  // namespace loupe::coordinator::api
