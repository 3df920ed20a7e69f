// `loupe report SWEEP`: the analysis of a sweep, made by the coordinator from one snapshot of its store.
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "analysis/report/anova_format.h"
#include "analysis/report/report.h"
#include "cli/analysis_options.h"
#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/failure.h"
#include "cli/named_cell.h"
#include "cli/output.h"
#include "cli/sweep_name.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "loupe/v1/analysis.grpc.pb.h"

namespace loupe::cli {
namespace {

struct ReportFlags {
  ConnectFlags connect;
  std::string sweep;
  std::string response;
  std::string terms;
  int ss_type = 2;
  bool include_stopped_early = false;
  std::vector<std::string> with;
  std::vector<std::string> baseline;
  std::string compare;
  std::string rankings_between;
  std::vector<std::string> simple_effects;
  std::vector<std::string> contrasts;
  std::string table;
  std::string baseline_method;
  double equal_parameters = 0;
  double parameters_tolerance = 0.25;
  std::string format;
  std::string output;
};

absl::Status Run(const ReportFlags& flags) {
  LOUPE_RETURN_IF_ERROR(CheckTable(flags.table, flags.format));
  v1::RenderReportRequest request;
  LOUPE_ASSIGN_OR_RETURN(*request.mutable_name(), SweepName(flags.sweep));
  request.set_response(flags.response);
  request.set_terms(flags.terms);
  request.set_ss_type(flags.ss_type);
  request.set_include_stopped_early(flags.include_stopped_early);
  for (const std::string& other : flags.with) {
    LOUPE_ASSIGN_OR_RETURN(*request.add_with(), SweepName(other));
  }
  LOUPE_ASSIGN_OR_RETURN(const analysis::report::NamedCell baseline, ParseNamedCell(flags.baseline));
  for (const auto& [factor, level] : baseline) (*request.mutable_baseline())[factor] = level;
  if (!flags.compare.empty()) {
    LOUPE_ASSIGN_OR_RETURN(*request.mutable_compare(), SweepName(flags.compare));
  }
  request.set_rankings_between(flags.rankings_between);
  *request.mutable_simple_effects() = {flags.simple_effects.begin(), flags.simple_effects.end()};
  *request.mutable_contrasts() = {flags.contrasts.begin(), flags.contrasts.end()};
  request.set_table(flags.table);
  request.set_baseline_method(flags.baseline_method);
  request.set_equal_parameters(flags.equal_parameters);
  request.set_parameters_tolerance(flags.parameters_tolerance);
  request.set_format(flags.format == "json"   ? v1::RenderReportRequest::JSON
                     : flags.format == "csv"  ? v1::RenderReportRequest::CSV
                     : flags.format == "html" ? v1::RenderReportRequest::HTML
                                              : v1::RenderReportRequest::TEXT);
  LOUPE_ASSIGN_OR_RETURN(const std::shared_ptr<clients::rpc::Connection> connection, Connect(flags.connect));
  const auto stub = v1::AnalysisService::NewStub(connection->channel());
  grpc::ClientContext context;
  connection->Prepare(context, absl::Minutes(10));
  const auto reader = stub->RenderReport(&context, request);
  v1::RenderReportResponse message;
  std::string report;
  while (reader->Read(&message)) report += message.chunk();
  LOUPE_RETURN_IF_ERROR(connection->Check(reader->Finish()));
  LOUPE_RETURN_IF_ERROR(WriteOutput(report, flags.output));
  // Said on stderr, so that a pipe sees the report alone.
  if (!flags.output.empty()) fmt::print(stderr, "{} bytes in {}\n", report.size(), flags.output);
  return absl::OkStatus();
}

}  // namespace

void AddReportCommand(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("report", "F table, means, heat map and best cells of a sweep");
  const auto flags = std::make_shared<ReportFlags>();
  command->add_option("sweep", flags->sweep, "The sweep's name")->required();
  command->add_option("--response,-y", flags->response,
                      "Score to analyse, such as clip_i; default: the sweep's primary score");
  command->add_option("--terms", flags->terms,
                      "Model terms, such as 'input*output + scale'; default: the main effects");
  command->add_flag("--include-stopped-early", flags->include_stopped_early,
                    "Analyse the trials of a search that were ended early too");
  command->add_option("--ss", flags->ss_type, "Type of the sums of squares: 1, 2 or 3")
      ->check(CLI::Range(1, 3))
      ->capture_default_str();
  command->add_option("--with", flags->with,
                      "Sweeps of the same design to analyse together with it, such as what 'loupe augment' added");
  command->add_option("--baseline", flags->baseline,
                      "Cell to contrast all others with, such as 'input=SA_in,output=FFN_in': a level of every factor");
  command->add_option("--baseline-method", flags->baseline_method,
                      "Of a sweep over methods: the one that the others are compared with; default: the first");
  command
      ->add_option("--equal-parameters", flags->equal_parameters,
                   "Of a sweep over methods: compare them also at their settings that train about this many parameters")
      ->check(CLI::PositiveNumber);
  command
      ->add_option("--parameters-within", flags->parameters_tolerance,
                   "With --equal-parameters: how far off, as a share of it, a setting may be")
      ->check(CLI::Range(0.001, 1.0))
      ->capture_default_str();
  command->add_option("--compare", flags->compare, "Sweep whose ranking of the cells is compared with this one's");
  command->add_option(
      "--rankings-between", flags->rankings_between,
      "Factor whose levels' rankings of the cells are compared, such as 'base' or, over the subjects and "
      "within each, 'base | subject'");
  AddQuestionOptions(*command, flags->simple_effects, flags->contrasts);
  AddFormatAndOutputOptions(*command, flags->format, flags->output, {"text", "json", "csv", "html"});
  std::vector<std::string> tables = analysis::report::CsvTableNames();
  tables.insert(tables.begin(), analysis::report::kTrialsTable);
  AddTableOption(*command, flags->table, flags->format, std::move(tables));
  AddConnectOptions(*command, flags->connect);
  command->callback([flags, &exit_code] { exit_code = Fail(Run(*flags)); });
}

}  // namespace loupe::cli
