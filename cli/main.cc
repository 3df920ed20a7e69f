// `loupe`: plans, submits and watches sweeps, and analyses their results.
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "CLI/App.hpp"
#include "CLI/Config.hpp"
#include "CLI/Formatter.hpp"
#include "cli/command_trace.h"
#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/exit_code.h"
#include "cli/name_hint.h"
#include "common/http_post.h"
#include "common/text.h"
#include "fmt/format.h"

namespace {

constexpr char kFooter[] =
    "Exit codes: 0 done, 1 failed, 2 wrong command line or input, 3 no coordinator answers,\n"
    "4 the sweep ended with trials that have no result, 130 interrupted.\n"
    "Options of the connection (--address, --data, --token-file, …) may also stand before the command.";

// Options of the connection behind the command, where they are known; the collector's stays in front.
std::vector<std::string> ArgumentsInOrder(std::vector<std::string> arguments) {
  constexpr std::string_view kOption = "--otlp-endpoint";
  std::vector<std::string> first;
  for (auto at = arguments.begin(); at != arguments.end() && at->starts_with("--") && first.empty();) {
    const bool has_value = at->starts_with(std::string(kOption) + "=");
    if (*at != kOption && !has_value) {
      at += at->find('=') == std::string::npos && arguments.end() - at > 1 ? 2 : 1;
      continue;
    }
    const auto end = at + (has_value || arguments.end() - at == 1 ? 1 : 2);
    first.assign(at, end);
    arguments.erase(at, end);
    break;
  }
  arguments = loupe::cli::WithConnectOptionsBehind(std::move(arguments));
  arguments.insert(arguments.begin(), first.begin(), first.end());
  return arguments;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Loupe: factorial sweeps over parameter-efficient tuning of diffusion models", "loupe"};
  app.set_version_flag("--version",
                       "loupe " LOUPE_VERSION "\nbuild: " LOUPE_BUILD "\nLibTorch of its workers: " LOUPE_LIBTORCH);
  app.require_subcommand(1);
  app.footer(kFooter);
  std::string otlp_endpoint;
  app.add_option(
         "--otlp-endpoint", otlp_endpoint,
         "Collector that gets the command's span: http://localhost:4318 (else OTEL_EXPORTER_OTLP_ENDPOINT, else "
         "none)")
      ->check(CLI::Validator([](std::string& url) { return std::string(loupe::ParseHttpUrl(url).status().message()); },
                             "URL"));
  loupe::cli::CommandTrace trace;
  // Before the command's own callback.
  app.parse_complete_callback([&] { trace.Begin(otlp_endpoint); });
  int exit_code = loupe::cli::kOk;
  loupe::cli::AddPlanCommand(app, exit_code);
  loupe::cli::AddUpCommand(app, exit_code);
  loupe::cli::AddSubmitCommand(app, exit_code);
  loupe::cli::AddAugmentCommand(app, exit_code);
  loupe::cli::AddWatchCommand(app, exit_code);
  loupe::cli::AddTopCommand(app, exit_code);
  loupe::cli::AddSweepCommands(app, exit_code);
  loupe::cli::AddReportCommand(app, exit_code);
  loupe::cli::AddTrialCommands(app, exit_code);
  loupe::cli::AddWorkerCommands(app, exit_code);
  loupe::cli::AddFleetCommand(app, exit_code);
  loupe::cli::AddAnovaCommand(app, exit_code);
  loupe::cli::AddDataCommands(app, exit_code);
  loupe::cli::AddKeysCommand(app, exit_code);
  loupe::cli::AddOpenCommand(app, exit_code);
  loupe::cli::AddCompletionCommand(app, exit_code);
  loupe::cli::AddManCommand(app, exit_code);
  if (argc > 1 && std::string_view(argv[1]) == "__complete")
    return loupe::cli::PrintCompletions(app, {argv + 2, argv + argc});
  const std::vector<std::string> arguments = ArgumentsInOrder({argv + 1, argv + argc});
  std::vector<const char*> words{argv[0]};
  for (const std::string& argument : arguments) words.push_back(argument.c_str());
  try {
    app.parse(static_cast<int>(words.size()), words.data());
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app.exit(error);
    const std::string hint = loupe::cli::CommandHint(app, static_cast<int>(words.size()), words.data());
    fmt::print(stderr, "loupe: {}{}\nRun 'loupe {}--help' for more.\n",
               loupe::Printable(error.what(), loupe::LineBreaks::kKept), loupe::Printable(hint),
               app.get_subcommands().empty() ? "" : app.get_subcommands().front()->get_name() + " ");
    return loupe::cli::kBadInput;
  }
  trace.End(app.get_subcommands().front()->get_name(), exit_code);
  // A full disk or a closed pipe behind stdout is a failure even where the command itself went well.
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    if (exit_code == loupe::cli::kOk) exit_code = loupe::cli::kFailed;
  }
  return exit_code;
}
