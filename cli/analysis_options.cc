#include "cli/analysis_options.h"

#include <utility>

#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::cli {

void AddQuestionOptions(CLI::App& command, std::vector<std::string>& simple_effects,
                        std::vector<std::string>& contrasts) {
  // Not a list each: CLI11 would take what stands in brackets apart at its commas.
  command
      .add_option("--simple-effects", simple_effects,
                  "Compare means within the levels of other factors, such as 'input | output'; may be given again")
      ->allow_extra_args(false);
  command
      .add_option(
          "--contrast", contrasts,
          "Sum of means to estimate and test, such as '[input=SA_in] - ([input=CA_in] + [input=CA_out])/2'; may "
          "be given again")
      ->allow_extra_args(false);
}

void AddTableOption(CLI::App& command, std::string& table, std::string& format, std::vector<std::string> tables) {
  command
      .add_option_function<std::string>(
          "--table",
          [&command, &table, &format](const std::string& named) {
            table = named;
            if (command.count("--format") == 0) format = "csv";
          },
          fmt::format("Which table the CSV format prints: {}", fmt::join(tables, ", ")))
      ->check(CLI::IsMember(std::move(tables)));
}

absl::Status CheckTable(const std::string& table, const std::string& format) {
  if (table.empty() || format == "csv") return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format(
      "--table {} chooses among the tables of the csv format, and the {} format has them all: leave one of them out",
      table, format));
}

}  // namespace loupe::cli
