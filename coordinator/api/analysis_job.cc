#include "coordinator/api/analysis_job.h"

#include <google/rpc/error_details.pb.h>
#include <google/rpc/status.pb.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <exception>
#include <map>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "analysis/report/report.h"
#include "analysis/report/results_union.h"
#include "analysis/report/sweep_analysis.h"
#include "analysis/report/untuned_base.h"
#include "analysis/stats/nesting.h"
#include "common/error_details.h"
#include "common/ids.h"
#include "common/status_macros.h"
#include "coordinator/api/convert.h"
#include "coordinator/api/rpc_status.h"
#include "coordinator/engine/plan_cache.h"
#include "coordinator/engine/result_check.h"
#include "coordinator/store/artifact_folder.h"
#include "coordinator/store/data_folder.h"
#include "coordinator/store/sqlite_store.h"
#include "fmt/format.h"
#include "loupe/v1/sweep.pb.h"

namespace loupe::coordinator::api {
namespace {

// First byte of a job.
constexpr char kAnova = 'A';
constexpr char kReport = 'R';
// Of an answer: four bytes, then the lengths of status and payload in eight bytes each, least significant first.
constexpr std::string_view kAnswerMark = "LAA1";
constexpr size_t kLengthBytes = 8;
constexpr size_t kAnswerHeadBytes = 4 + 2 * kLengthBytes;
// Below the coordinator, which must not wait for an analysis.
constexpr int kNiceness = 5;

// What an analysis reads.
struct Sources {
  store::StoreReader* store = nullptr;
  engine::PlanCache* plans = nullptr;
  const store::ArtifactFolder* artifacts = nullptr;
};

constexpr std::string_view kWarningPrefix = "warning.";
constexpr std::string_view kNotePrefix = "note.";

absl::StatusOr<analysis::report::ReportOptions> OptionsFrom(const std::string& response, const std::string& terms,
                                                            int32_t ss_type, bool include_stopped_early) {
  analysis::report::ReportOptions options;
  options.include_stopped_early = include_stopped_early;
  options.response = response;
  options.terms = terms;
  switch (ss_type) {
    case 1:
      options.ss_type = analysis::stats::SumOfSquares::kType1;
      break;
    case 0:
    case 2:
      options.ss_type = analysis::stats::SumOfSquares::kType2;
      break;
    case 3:
      options.ss_type = analysis::stats::SumOfSquares::kType3;
      break;
    default:
      return absl::InvalidArgumentError(fmt::format("ss_type is {}: expected 1, 2 or 3", ss_type));
  }
  return options;
}

// Each score's untuned base: the mean of "<score>_base" over the trials (the same base, scored with each trial's
// seeds).
// Moves what the worker said about its scores ("warning.fid": a sentence) out of the rest of a trial's provenance.
std::map<std::string, std::string> TakeScoreWarnings(std::map<std::string, std::string>& provenance) {
  std::map<std::string, std::string> warnings;
  for (auto at = provenance.lower_bound(std::string(kWarningPrefix));
       at != provenance.end() && at->first.starts_with(kWarningPrefix); at = provenance.erase(at)) {
    warnings.emplace(at->first.substr(kWarningPrefix.size()), at->second);
  }
  return warnings;
}

analysis::report::TrialRecord ToRecord(const store::SweepSnapshot::Trial& trial, const plan::Plan& plan) {
  analysis::report::TrialRecord record;
  record.index = trial.index;
  record.cell_index = trial.cell_index;
  for (size_t factor = 0; factor < plan.factors().size(); ++factor) {
    record.levels.push_back(static_cast<int32_t>(plan.LevelIndex(trial.cell_index, factor)));
  }
  record.replicate = trial.replicate;
  // The same order of states on both sides, one based and zero based.
  record.state = trial.state;
  if (trial.state == TrialState::kSucceeded) record.scores = trial.scores;
  record.failure_message = trial.failure_message;
  record.attempts = trial.attempts;
  record.duration_seconds = trial.total_seconds;
  record.stopped_early = trial.stopped_at_step > 0;
  record.stopped_at_step = trial.stopped_at_step;
  record.parameters = trial.parameters;
  record.file_bytes = static_cast<double>(trial.weight_bytes);
  return record;
}

absl::StatusOr<analysis::report::SweepResults> ReadResults(const Sources& sources, const std::string& sweep_id) {
  LOUPE_ASSIGN_OR_RETURN(store::SweepSnapshot snapshot, sources.store->Snapshot(sweep_id));
  LOUPE_ASSIGN_OR_RETURN(const std::shared_ptr<const plan::Plan> plan, sources.plans->Get(snapshot.sweep));
  analysis::report::SweepResults results;
  results.sweep_id = fmt::format("sweeps/{}", sweep_id);
  results.display_name = snapshot.sweep.display_name;
  results.state = v1::Sweep::State_Name(static_cast<v1::Sweep::State>(snapshot.sweep.state));
  for (size_t factor = 0; factor < plan->factors().size(); ++factor) {
    const plan::SweepFactor& source = plan->factors()[factor];
    results.factors.push_back({plan->FactorName(factor), source.key, source.levels, source.within, source.settings});
  }
  results.replicates = snapshot.sweep.replicates;
  const settings::Settings first_cell = plan->CellSettings(0);
  if (first_cell.Has("score.primary")) results.primary_score = first_cell.Text("score.primary");
  for (const store::SweepSnapshot::Trial& trial : snapshot.trials) results.trials.push_back(ToRecord(trial, *plan));
  for (store::SweepSnapshot::Curve& curve : snapshot.curves) {
    results.curves.push_back({curve.trial_index, std::move(curve.metric), std::move(curve.points)});
  }
  results.baseline_scores = analysis::report::BaselineScores(results.trials);
  results.notes = engine::InputNotes(snapshot, *plan);
  results.notes.insert(results.notes.end(), snapshot.notes.begin(), snapshot.notes.end());
  std::erase_if(snapshot.provenance, [](const auto& entry) { return entry.first.starts_with(kNotePrefix); });
  auto pictures = std::make_shared<std::map<int64_t, std::string>>();
  for (const store::SweepSnapshot::Trial& trial : snapshot.trials) {
    if (!trial.samples_sha256.empty()) pictures->emplace(trial.index, trial.samples_sha256);
  }
  if (!pictures->empty()) {
    results.load_sample_picture = [pictures,
                                   artifacts = sources.artifacts](int64_t index) -> absl::StatusOr<std::string> {
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

absl::StatusOr<std::string> Anova(const Sources& sources, const v1::GetAnovaRequest& request) {
  LOUPE_ASSIGN_OR_RETURN(const SweepId id, SweepId::FromName(request.name()));
  LOUPE_ASSIGN_OR_RETURN(
      const analysis::report::ReportOptions options,
      OptionsFrom(request.response(), request.terms(), request.ss_type(), request.include_stopped_early()));
  LOUPE_ASSIGN_OR_RETURN(const analysis::report::SweepResults results, ReadResults(sources, id.id()));
  LOUPE_ASSIGN_OR_RETURN(const analysis::report::SweepAnalysis sweep, analysis::report::AnalyseSweep(results, options));
  if (!sweep.analysis.problem.empty()) return absl::FailedPreconditionError(sweep.analysis.problem);
  v1::GetAnovaResponse response;
  response.set_response(sweep.response);
  response.set_ss_type(request.ss_type() == 0 ? 2 : request.ss_type());
  for (const analysis::stats::AnovaTerm& term : sweep.analysis.anova.terms) {
    v1::AnovaTerm* added = response.add_terms();
    added->set_term(analysis::stats::NestedTermName(term.term, term.within));
    added->set_df(term.df);
    added->set_sum_sq(term.sum_sq);
    added->set_mean_sq(term.mean_sq);
    added->set_f(term.f);
    added->set_p(term.p);
    added->set_estimable(term.estimable);
    added->set_note(term.note);
  }
  const analysis::stats::AnovaTable& table = sweep.analysis.anova;
  response.set_observations(static_cast<int64_t>(table.total_df) + 1);
  response.mutable_residual()->set_term("residual");
  response.mutable_residual()->set_df(table.residual.df);
  response.mutable_residual()->set_sum_sq(table.residual.sum_sq);
  response.mutable_residual()->set_mean_sq(table.residual.mean_sq);
  for (const analysis::stats::OneWayResult& one : sweep.analysis.one_way) {
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
  return response.SerializeAsString();
}

// The sweep's results, with those of `with` as one design.
absl::StatusOr<analysis::report::SweepResults> ReadTogether(
    const Sources& sources, const std::string& name, const google::protobuf::RepeatedPtrField<std::string>& with) {
  std::vector<analysis::report::SweepResults> sweeps;
  LOUPE_ASSIGN_OR_RETURN(const SweepId first, SweepId::FromName(name));
  LOUPE_ASSIGN_OR_RETURN(sweeps.emplace_back(), ReadResults(sources, first.id()));
  for (const std::string& other : with) {
    LOUPE_ASSIGN_OR_RETURN(const SweepId id, SweepId::FromName(other));
    LOUPE_ASSIGN_OR_RETURN(sweeps.emplace_back(), ReadResults(sources, id.id()));
  }
  return analysis::report::UniteResults(std::move(sweeps));
}

absl::StatusOr<std::string> Render(const Sources& sources, const v1::RenderReportRequest& request) {
  LOUPE_ASSIGN_OR_RETURN(
      analysis::report::ReportOptions options,
      OptionsFrom(request.response(), request.terms(), request.ss_type(), request.include_stopped_early()));
  options.baseline = {request.baseline().begin(), request.baseline().end()};
  options.simple_effects = {request.simple_effects().begin(), request.simple_effects().end()};
  options.contrasts = {request.contrasts().begin(), request.contrasts().end()};
  options.rankings_between = request.rankings_between();
  options.baseline_method = request.baseline_method();
  options.equal_parameters.parameters = request.equal_parameters();
  if (request.parameters_tolerance() != 0) options.equal_parameters.tolerance = request.parameters_tolerance();
  options.csv_table = request.table();
  if (!request.table().empty() && request.format() != v1::RenderReportRequest::CSV)
    return absl::InvalidArgumentError(
        "table: chooses among the tables of the CSV format; leave it out, or ask for CSV");
  LOUPE_ASSIGN_OR_RETURN(const analysis::report::SweepResults results,
                         ReadTogether(sources, request.name(), request.with()));
  if (!request.compare().empty()) {
    LOUPE_ASSIGN_OR_RETURN(const SweepId other, SweepId::FromName(request.compare()));
    LOUPE_ASSIGN_OR_RETURN(analysis::report::SweepResults compared, ReadResults(sources, other.id()));
    options.compare_with = std::make_shared<const analysis::report::SweepResults>(std::move(compared));
  }
  switch (request.format()) {
    case v1::RenderReportRequest::TEXT:
      return analysis::report::RenderText(results, options);
    case v1::RenderReportRequest::JSON:
      return analysis::report::RenderJson(results, options);
    case v1::RenderReportRequest::CSV:
      return analysis::report::RenderCsv(results, options);
    case v1::RenderReportRequest::HTML:
      return analysis::report::RenderHtml(results, options);
    default:
      return absl::InvalidArgumentError("format: expected TEXT, JSON, CSV or HTML");
  }
}

absl::StatusOr<std::string> Compute(const std::string& data_folder, std::string_view job) {
  LOUPE_ASSIGN_OR_RETURN(const std::unique_ptr<store::SqliteStore> store,
                         store::SqliteStore::OpenToRead({.path = data_folder + store::kDatabaseFile}));
  const absl::StatusOr<store::ArtifactFolder> artifacts =
      store::ArtifactFolder::Existing(data_folder + store::kArtifactsFolder);
  engine::PlanCache plans;
  const Sources sources{store.get(), &plans, artifacts.ok() ? &*artifacts : nullptr};
  const std::string bytes(job.substr(job.empty() ? 0 : 1));
  if (v1::GetAnovaRequest anova; job.starts_with(kAnova) && anova.ParseFromString(bytes)) return Anova(sources, anova);
  if (v1::RenderReportRequest report; job.starts_with(kReport) && report.ParseFromString(bytes))
    return Render(sources, report);
  return absl::InvalidArgumentError("standard input is no analysis job: this subcommand is the coordinator's own");
}

AnalysisAnswer AnswerJob(const std::string& data_folder, std::string_view job) {
  AnalysisAnswer answer;
  try {
    absl::StatusOr<std::string> computed = Compute(data_folder, job);
    answer.status = computed.status();
    if (computed.ok()) answer.payload = *std::move(computed);
  } catch (const std::bad_alloc&) {
    answer = {absl::ResourceExhaustedError("the analysis needs more memory than it is given (--analysis-memory-mb)"),
              ""};
  } catch (const std::exception& error) {
    answer = {absl::InternalError(fmt::format("the analysis failed: {}", error.what())), ""};
  }
  return answer;
}

std::string ReadAll(int fd) {
  std::string bytes;
  char buffer[1 << 16];
  for (ssize_t got = 0; (got = ::read(fd, buffer, sizeof buffer)) > 0 || (got < 0 && errno == EINTR);) {
    if (got > 0) bytes.append(buffer, static_cast<size_t>(got));
  }
  return bytes;
}

bool WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t wrote = ::write(fd, bytes.data(), bytes.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return false;
    bytes.remove_prefix(static_cast<size_t>(wrote));
  }
  return true;
}

}  // namespace

std::string JobFor(const v1::GetAnovaRequest& request) { return kAnova + DeterministicBytes(request); }
std::string JobFor(const v1::RenderReportRequest& request) { return kReport + DeterministicBytes(request); }

std::string EncodeAnswer(const AnalysisAnswer& answer) {
  const std::string status = ToRpcStatus(answer.status).SerializeAsString();
  std::string bytes(kAnswerMark);
  for (const size_t length : {status.size(), answer.payload.size()}) {
    for (size_t i = 0; i < kLengthBytes; ++i) bytes += static_cast<char>((uint64_t{length} >> (8 * i)) & 0xff);
  }
  return bytes + status + answer.payload;
}

absl::StatusOr<AnalysisAnswer> DecodeAnswer(std::string_view bytes) {
  const absl::Status damaged = absl::DataLossError("the analysis process wrote no whole answer");
  if (bytes.size() < kAnswerHeadBytes || !bytes.starts_with(kAnswerMark)) return damaged;
  const auto length_at = [bytes](size_t at) {
    uint64_t length = 0;
    for (size_t i = 0; i < kLengthBytes; ++i) length |= uint64_t{static_cast<unsigned char>(bytes[at + i])} << (8 * i);
    return length;
  };
  const uint64_t size = length_at(kAnswerMark.size());
  const uint64_t rest = bytes.size() - kAnswerHeadBytes;
  if (size > rest || length_at(kAnswerMark.size() + kLengthBytes) != rest - size) return damaged;
  google::rpc::Status status;
  if (!status.ParseFromArray(bytes.data() + kAnswerHeadBytes, static_cast<int>(size))) return damaged;
  AnalysisAnswer answer;
  answer.status = absl::Status(static_cast<absl::StatusCode>(status.code()), status.message());
  for (const google::protobuf::Any& detail : status.details()) {
    google::rpc::ErrorInfo info;
    if (detail.UnpackTo(&info) && info.reason() != absl::StatusCodeToString(answer.status.code())) {
      answer.status = WithReason(answer.status, info.reason());
    }
  }
  answer.payload = bytes.substr(kAnswerHeadBytes + size);
  return answer;
}

int RunAnalysisProcess(const std::string& data_folder, int64_t memory_bytes) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::setpriority(PRIO_PROCESS, 0, kNiceness);
  // A core file of a few gigabytes would be the last straw for a small disk.
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
  if (memory_bytes > 0) {
    const rlimit most{static_cast<rlim_t>(memory_bytes), static_cast<rlim_t>(memory_bytes)};
    ::setrlimit(RLIMIT_AS, &most);
  }
  return WriteAll(STDOUT_FILENO, EncodeAnswer(AnswerJob(data_folder, ReadAll(STDIN_FILENO)))) ? 0 : 1;
}

}  // namespace loupe::coordinator::api
