// `loupe open`: the coordinator's page, in a browser.
#include <fcntl.h>
#include <spawn.h>

#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/failure.h"
#include "cli/output.h"
#include "cli/sweep_name.h"
#include "common/atomic_file.h"
#include "common/program_start.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::cli {
namespace {

constexpr char kPageVariable[] = "LOUPE_PAGE";
#ifdef __APPLE__
constexpr char kOpener[] = "open";
#else
constexpr char kOpener[] = "xdg-open";
#endif

struct PageFlags {
  ConnectFlags connect;
  std::string sweep;
  std::optional<int64_t> trial;
  std::string page;
  bool print = false;
};

bool HasValue(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr && *value != '\0';
}

// "http://127.0.0.1:7118": as given, else what the coordinator of --data has left, where that is the one that is meant.
absl::StatusOr<std::string> PageAddress(const PageFlags& flags) {
  if (!flags.page.empty()) return flags.page;
  if (HasValue(kPageVariable)) return std::getenv(kPageVariable);
  LOUPE_ASSIGN_OR_RETURN(const clients::rpc::ConnectOptions options, ResolveFlags(flags.connect));
  const absl::StatusOr<std::string> local = ReadFile(flags.connect.data + "/" + kAddressFile);
  if (local.ok() && absl::StripAsciiWhitespace(*local) != options.address) {
    return absl::FailedPreconditionError(
        fmt::format("the coordinator at {} is not the one of '{}': give its page's address by --page or {}; it says it "
                    "in its log and in its DATA/http_address",
                    options.address, flags.connect.data, kPageVariable));
  }
  const absl::StatusOr<std::string> page = ReadFile(flags.connect.data + "/http_address");
  if (page.ok()) return std::string(absl::StripAsciiWhitespace(page->substr(0, page->find('\n'))));
  return absl::NotFoundError(fmt::format(
      "no page is served from '{}': start a coordinator with 'loupe up', or give the page's address by --page",
      flags.connect.data));
}

// The page's own addresses (web/src/route.ts); ids need no encoding.
absl::StatusOr<std::string> AddressOf(const PageFlags& flags) {
  LOUPE_ASSIGN_OR_RETURN(std::string address, PageAddress(flags));
  while (address.ends_with('/')) address.pop_back();
  address += "/";
  if (flags.sweep.empty()) return address;
  LOUPE_ASSIGN_OR_RETURN(const std::string name,
                         flags.trial ? TrialName(flags.sweep, *flags.trial) : SweepName(flags.sweep));
  return address + "#/" + name;
}

// Not waited for: some openers stay as long as the browser does.
absl::Status Launch(const std::string& address) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
  const std::vector<std::string> words = {kOpener, address};
  pid_t pid = 0;
  const int error =
      posix_spawnp(&pid, kOpener, &actions, &attributes, ArgumentsOf(words).data(), EnvironmentForOthers().data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (error == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(error, fmt::format("cannot start {}: open the address above by hand", kOpener));
}

absl::Status Open(const PageFlags& flags) {
  LOUPE_ASSIGN_OR_RETURN(const std::string address, AddressOf(flags));
  LOUPE_RETURN_IF_ERROR(WriteOutput(address + "\n", ""));
  if (flags.print) return absl::OkStatus();
  if (const std::string token = flags.connect.data + "/" + kTokenFile; ReadFile(token).ok())
    fmt::print(stderr, "a browser that is not signed in wants the token in '{}'\n", token);
#ifndef __APPLE__
  // Over ssh, in a container: there is nothing to open it on.
  if (!HasValue("DISPLAY") && !HasValue("WAYLAND_DISPLAY")) return absl::OkStatus();
#endif
  return Launch(address);
}

}  // namespace

void AddOpenCommand(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("open", "Open the coordinator's page in a browser, and print its address");
  const auto flags = std::make_shared<PageFlags>();
  command->add_option("sweep", flags->sweep, "The sweep to show; without one, all of them");
  command->add_option("trial", flags->trial, "The trial of it to show, by its number")->check(CLI::NonNegativeNumber);
  command->add_flag("--print", flags->print, "Print the address only");
  command->add_option(
      "--page", flags->page,
      fmt::format("The page's address (default: {}, else the one in DATA/http_address)", kPageVariable));
  AddConnectOptions(*command, flags->connect);
  command->callback([flags, &exit_code] { exit_code = Fail(Open(*flags)); });
}

}  // namespace loupe::cli
