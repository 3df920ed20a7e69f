#include "coordinator/service/analysis_service.h"

#include <memory>
#include <utility>
#include <vector>

#include "analysis/report/results_union.h"
#include "analysis/report/sweep_analysis.h"
#include "common/ids.h"
#include "common/status_macros.h"
#include "coordinator/service/convert.h"
#include "fmt/format.h"
#include "loupe/v1/sweep.pb.h"

namespace loupe::coordinator {
namespace {

constexpr size_t kChunkBytes = 1 << 20;
constexpr std::string_view kBaseSuffix = "_base";
constexpr std::string_view kWarningPrefix = "warning.";

absl::StatusOr<analysis::ReportOptions> OptionsFrom(const std::string& response, const std::string& terms, int32_t ss_type) {
  analysis::ReportOptions options;
  options.response = response;
  options.terms = terms;
  switch (ss_type) {
    case 1: options.ss_type = analysis::SumOfSquares::kType1; break;
    case 0:
    case 2: options.ss_type = analysis::SumOfSquares::kType2; break;
    case 3: options.ss_type = analysis::SumOfSquares::kType3; break;
    default: return absl::InvalidArgumentError(fmt::format("ss_type is {}: expected 1, 2 or 3", ss_type));
  }
  return options;
}

// Each score's untuned base: the mean of "<score>_base" over the trials (the same base, scored with each trial's seeds).
std::map<std::string, double> BaselineScores(const SweepSnapshot& snapshot) {
  std::map<std::string, std::pair<double, int64_t>> sums;
  for (const SweepSnapshot::Trial& trial : snapshot.trials) {
    for (const auto& [name, value] : trial.scores) {
      if (!name.ends_with(kBaseSuffix)) continue;
      auto& [sum, count] = sums[name.substr(0, name.size() - kBaseSuffix.size())];
      sum += value;
      ++count;
    }
  }
  std::map<std::string, double> means;
  for (const auto& [name, sum] : sums) means.emplace(name, sum.first / static_cast<double>(sum.second));
  return means;
}

// Moves what the worker said about its scores ("warning.fid": a sentence) out of the rest of a trial's provenance.
std::map<std::string, std::string> TakeScoreWarnings(std::map<std::string, std::string>& provenance) {
  std::map<std::string, std::string> warnings;
  for (auto at = provenance.lower_bound(std::string(kWarningPrefix));
       at != provenance.end() && at->first.starts_with(kWarningPrefix); at = provenance.erase(at)) {
    warnings.emplace(at->first.substr(kWarningPrefix.size()), at->second);
  }
  return warnings;
}

analysis::TrialRecord ToRecord(const SweepSnapshot::Trial& trial, const Plan& plan) {
  analysis::TrialRecord record;
  record.index = trial.index;
  record.cell_index = trial.cell_index;
  for (size_t factor = 0; factor < plan.factors().size(); ++factor) {
    record.levels.push_back(static_cast<int32_t>(plan.LevelIndex(trial.cell_index, factor)));
  }
  record.replicate = trial.replicate;
  // The same order of states on both sides, one based and zero based.
  record.state = static_cast<analysis::TrialState>(static_cast<int>(trial.state) - 1);
  if (trial.state == TrialState::kSucceeded) record.scores = trial.scores;
  record.failure_message = trial.failure_message;
  record.attempts = trial.attempts;
  record.duration_seconds = trial.total_seconds;
  return record;
}

}  // namespace

absl::StatusOr<analysis::SweepResults> ReadResults(const Backend& backend, const std::string& sweep_id) {
  LOUPE_ASSIGN_OR_RETURN(SweepSnapshot snapshot, backend.store->Snapshot(sweep_id));
  LOUPE_ASSIGN_OR_RETURN(const std::shared_ptr<const Plan> plan, backend.plans->Get(snapshot.sweep));
  analysis::SweepResults results;
  results.sweep_id = fmt::format("sweeps/{}", sweep_id);
  results.display_name = snapshot.sweep.display_name;
  results.state = v1::Sweep::State_Name(static_cast<v1::Sweep::State>(snapshot.sweep.state));
  for (size_t factor = 0; factor < plan->factors().size(); ++factor) {
    const SweepFactor& source = plan->factors()[factor];
    results.factors.push_back({plan->FactorName(factor), source.key, source.levels});
  }
  results.replicates = snapshot.sweep.replicates;
  const Settings first_cell = plan->CellSettings(0);
  if (first_cell.Has("score.primary")) results.primary_score = first_cell.Text("score.primary");
  for (const SweepSnapshot::Trial& trial : snapshot.trials) results.trials.push_back(ToRecord(trial, *plan));
  for (SweepSnapshot::Curve& curve : snapshot.curves) {
    results.curves.push_back({curve.trial_index, std::move(curve.metric), std::move(curve.points)});
  }
  results.baseline_scores = BaselineScores(snapshot);
  auto pictures = std::make_shared<std::map<int64_t, std::string>>();
  for (const SweepSnapshot::Trial& trial : snapshot.trials) {
    if (!trial.samples_sha256.empty()) pictures->emplace(trial.index, trial.samples_sha256);
  }
  if (!pictures->empty()) {
    results.load_sample_picture = [pictures, artifacts = backend.artifacts](int64_t index) -> absl::StatusOr<std::string> {
      const auto found = pictures->find(index);
      if (found == pictures->end()) return absl::NotFoundError("the trial has no sample sheet");
      return artifacts->Read(found->second);
    };
  }
  results.provenance.seed = snapshot.sweep.seed;
  results.provenance.spec_text = plan->spec().source_text;
  results.provenance.settings = plan->spec().settings;
  results.score_warnings = TakeScoreWarnings(snapshot.provenance);
  results.provenance.versions = std::move(snapshot.provenance);
  return results;
}

absl::Status AnalysisServiceImpl::Anova(const v1::GetAnovaRequest& request, v1::GetAnovaResponse& response) {
  LOUPE_ASSIGN_OR_RETURN(const SweepId id, SweepId::FromName(request.name()));
  LOUPE_ASSIGN_OR_RETURN(const analysis::ReportOptions options,
                         OptionsFrom(request.response(), request.terms(), request.ss_type()));
  LOUPE_ASSIGN_OR_RETURN(const analysis::SweepResults results, ReadResults(backend_, id.id()));
  LOUPE_ASSIGN_OR_RETURN(const analysis::SweepAnalysis sweep, analysis::AnalyseSweep(results, options));
  if (!sweep.analysis.problem.empty()) return absl::FailedPreconditionError(sweep.analysis.problem);
  response.set_response(sweep.response);
  response.set_ss_type(request.ss_type() == 0 ? 2 : request.ss_type());
  for (const analysis::AnovaTerm& term : sweep.analysis.anova.terms) {
    v1::AnovaTerm* added = response.add_terms();
    added->set_term(term.term);
    added->set_df(term.df);
    added->set_sum_sq(term.sum_sq);
    added->set_mean_sq(term.mean_sq);
    added->set_f(term.f);
    added->set_p(term.p);
    added->set_estimable(term.estimable);
    added->set_note(term.note);
  }
  const analysis::AnovaTable& table = sweep.analysis.anova;
  response.set_observations(static_cast<int64_t>(table.total_df) + 1);
  response.mutable_residual()->set_term("residual");
  response.mutable_residual()->set_df(table.residual.df);
  response.mutable_residual()->set_sum_sq(table.residual.sum_sq);
  response.mutable_residual()->set_mean_sq(table.residual.mean_sq);
  for (const analysis::OneWayResult& one : sweep.analysis.one_way) {
    v1::AnovaTerm* added = response.add_one_way();
    added->set_term(one.factor);
    added->set_df(one.between_df);
    added->set_sum_sq(one.between_sum_sq);
    added->set_mean_sq(one.between_mean_sq);
    added->set_f(one.f);
    added->set_p(one.p);
    added->set_estimable(one.f == one.f);
  }
  for (const std::string& note : sweep.analysis.notes) response.add_notes(note);
  response.set_data_hash(sweep.hash);
  return absl::OkStatus();
}

namespace {

// The sweep's results, with those of `with` as one design.
absl::StatusOr<analysis::SweepResults> ReadTogether(const Backend& backend, const std::string& name,
                                                    const google::protobuf::RepeatedPtrField<std::string>& with) {
  std::vector<analysis::SweepResults> sweeps;
  LOUPE_ASSIGN_OR_RETURN(const SweepId first, SweepId::FromName(name));
  LOUPE_ASSIGN_OR_RETURN(sweeps.emplace_back(), ReadResults(backend, first.id()));
  for (const std::string& other : with) {
    LOUPE_ASSIGN_OR_RETURN(const SweepId id, SweepId::FromName(other));
    LOUPE_ASSIGN_OR_RETURN(sweeps.emplace_back(), ReadResults(backend, id.id()));
  }
  return analysis::UniteResults(std::move(sweeps));
}

}  // namespace

absl::Status AnalysisServiceImpl::Render(const v1::RenderReportRequest& request,
                                         grpc::ServerWriter<v1::RenderReportResponse>& writer) {
  LOUPE_ASSIGN_OR_RETURN(analysis::ReportOptions options,
                         OptionsFrom(request.response(), request.terms(), request.ss_type()));
  options.baseline = {request.baseline().begin(), request.baseline().end()};
  LOUPE_ASSIGN_OR_RETURN(const analysis::SweepResults results, ReadTogether(backend_, request.name(), request.with()));
  if (!request.compare().empty()) {
    LOUPE_ASSIGN_OR_RETURN(const SweepId other, SweepId::FromName(request.compare()));
    LOUPE_ASSIGN_OR_RETURN(analysis::SweepResults compared, ReadResults(backend_, other.id()));
    options.compare_with = std::make_shared<const analysis::SweepResults>(std::move(compared));
  }
  absl::StatusOr<std::string> report = absl::InvalidArgumentError("format: expected TEXT, JSON, CSV or HTML");
  switch (request.format()) {
    case v1::RenderReportRequest::TEXT: report = analysis::RenderText(results, options); break;
    case v1::RenderReportRequest::JSON: report = analysis::RenderJson(results, options); break;
    case v1::RenderReportRequest::CSV: report = analysis::RenderCsv(results, options); break;
    case v1::RenderReportRequest::HTML: report = analysis::RenderHtml(results, options); break;
    default: break;
  }
  LOUPE_RETURN_IF_ERROR(report.status());
  v1::RenderReportResponse response;
  for (size_t at = 0; at < report->size(); at += kChunkBytes) {
    response.set_chunk(report->substr(at, kChunkBytes));
    if (!writer.Write(response)) return absl::CancelledError("the reader has hung up");
  }
  return absl::OkStatus();
}

grpc::Status AnalysisServiceImpl::GetAnova(grpc::ServerContext* context, const v1::GetAnovaRequest* request,
                                           v1::GetAnovaResponse* response) {
  return Serve(backend_, *context, Role::kViewer, [&] { return Anova(*request, *response); });
}

grpc::Status AnalysisServiceImpl::RenderReport(grpc::ServerContext* context, const v1::RenderReportRequest* request,
                                               grpc::ServerWriter<v1::RenderReportResponse>* writer) {
  return Serve(backend_, *context, Role::kViewer, [&] { return Render(*request, *writer); });
}

}  // namespace loupe::coordinator
