// `loupe anova FILE.csv`: the analysis on any table.
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/report/anova_format.h"
#include "analysis/report/factorial_analysis.h"
#include "analysis/stats/csv_table.h"
#include "analysis/stats/nesting.h"
#include "analysis/stats/quoted_name.h"
#include "cli/analysis_options.h"
#include "cli/commands.h"
#include "cli/failure.h"
#include "cli/named_cell.h"
#include "cli/output.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::cli {
namespace {

struct AnovaFlags {
  std::string file;
  std::string encoding;
  std::string response;
  std::vector<std::string> factors;
  std::string status_column;
  std::vector<std::string> baseline;
  int ss_type = 2;
  analysis::report::AnalysisOptions analysis;
  std::string format;
  std::string table;
  std::string nested_in;
  std::string output;
};

absl::Status Run(AnovaFlags flags) {
  LOUPE_RETURN_IF_ERROR(CheckTable(flags.table, flags.format));
  LOUPE_ASSIGN_OR_RETURN(const std::string text, ReadInput(flags.file));
  LOUPE_ASSIGN_OR_RETURN(flags.factors, ParseNames(flags.factors));
  for (std::string* name : {&flags.response, &flags.analysis.anova.block, &flags.status_column}) {
    LOUPE_ASSIGN_OR_RETURN(*name, analysis::stats::UnquoteName(*name));
  }
  const analysis::stats::CsvOptions csv{.response = flags.response,
                                        .factors = flags.factors,
                                        .block = flags.analysis.anova.block,
                                        .status_column = flags.status_column,
                                        .encoding = flags.encoding};
  absl::StatusOr<analysis::stats::DataTable> table = analysis::stats::ReadCsvTable(text, csv);
  if (!table.ok()) return Annotate(table.status(), flags.file);
  if (!flags.nested_in.empty()) {
    LOUPE_ASSIGN_OR_RETURN(flags.nested_in, analysis::stats::UnquoteName(flags.nested_in));
    table = analysis::stats::NestFactors(*table, flags.nested_in, flags.analysis.anova.block);
    if (!table.ok())
      return absl::InvalidArgumentError(fmt::format("--nested-in: {}", std::string(table.status().message())));
    flags.analysis.questions.methods.factor = flags.nested_in;
    LOUPE_ASSIGN_OR_RETURN(flags.analysis.questions.methods.baseline,
                           analysis::stats::UnquoteName(flags.analysis.questions.methods.baseline));
  }
  flags.analysis.anova.ss_type = static_cast<analysis::stats::SumOfSquares>(flags.ss_type);
  LOUPE_ASSIGN_OR_RETURN(flags.analysis.questions.baseline, ParseNamedCell(flags.baseline));
  LOUPE_ASSIGN_OR_RETURN(const analysis::report::FactorialAnalysis result,
                         analysis::report::AnalyseFactorial(*std::move(table), flags.analysis));
  if (flags.format == "json") return WriteOutput(analysis::report::FormatAnovaJson(result), flags.output);
  if (flags.format == "text") return WriteOutput(analysis::report::FormatAnovaText(result), flags.output);
  LOUPE_ASSIGN_OR_RETURN(const std::string rows,
                         analysis::report::FormatCsvTable(result, flags.table.empty() ? "anova" : flags.table));
  return WriteOutput(rows, flags.output);
}

}  // namespace

void AddAnovaCommand(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("anova", "Analysis of variance of a CSV file");
  const auto flags = std::make_shared<AnovaFlags>();
  command->add_option("file", flags->file, "CSV file with a header line; '-' reads standard input")->required();
  command->add_option("--response,-y", flags->response, "Column with the numbers to explain")->required();
  command
      ->add_option(
          "--factors,-f", flags->factors,
          "Columns to explain them by, separated by commas; a name that holds a comma or begins with '-' goes in back-quotes")
      ->required();
  command->add_option(
      "--terms", flags->analysis.anova.formula,
      "Model terms, such as 'a*b+c' (a*b is a + b + a:b; a name with operators goes in back-quotes); default: the main effects");
  command->add_option("--block", flags->analysis.anova.block,
                      "Column whose additive effect is removed first (replicate, seed)");
  command->add_option("--ss", flags->ss_type, "Type of the sums of squares: 1, 2 or 3")
      ->check(CLI::Range(1, 3))
      ->capture_default_str();
  command->add_option("--confidence", flags->analysis.anova.confidence, "Level of the intervals")
      ->check(CLI::Range(0.5, 0.9999))
      ->capture_default_str();
  command->add_option("--status-column", flags->status_column,
                      "Column that says what became of each row: succeeded, failed, cancelled, stopped_early");
  command->add_flag("--include-stopped-early", flags->analysis.anova.include_stopped_early,
                    "Use the rows of trials that were stopped early too");
  command->add_flag("--smaller-is-better", flags->analysis.smaller_is_better,
                    "The best cell is the one with the smallest mean");
  command->add_option("--baseline", flags->baseline,
                      "Cell to contrast all others with, such as 'a=1,b=2': a level of every factor");
  command->add_option(
      "--nested-in", flags->nested_in,
      "Factor whose levels have factors of their own, such as 'method': a factor that is empty in all rows "
      "of a level exists at the others only");
  command->add_option("--baseline-method", flags->analysis.questions.methods.baseline,
                      "With --nested-in: the level that the others are compared with; default: the first");
  AddQuestionOptions(*command, flags->analysis.questions.simple_effects, flags->analysis.questions.contrasts);
  command->add_option(
      "--encoding", flags->encoding,
      "Of the file, such as windows-1252 (see 'iconv -l'); default: UTF-8, UTF-16 and UTF-32 are recognised");
  AddFormatAndOutputOptions(*command, flags->format, flags->output, {"text", "json", "csv"});
  AddTableOption(*command, flags->table, flags->format, analysis::report::CsvTableNames());
  command->callback([flags, &exit_code] { exit_code = Fail(Run(*flags)); });
}

}  // namespace loupe::cli
