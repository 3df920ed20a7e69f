#include "coordinator/token_command.h"

#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "common/atomic_file.h"
#include "common/clock.h"
#include "common/credentials.h"
#include "common/private_file.h"
#include "common/status_macros.h"
#include "coordinator/access/access.h"
#include "coordinator/access/authority.h"
#include "fmt/format.h"

namespace loupe::coordinator {
namespace {

struct AddFlags {
  std::string name;
  std::string role;
  double days = -1;
  int64_t uses = 1;
  std::string output;
  std::string address;
};

// An enrolment that is found later by somebody else should be worth nothing.
constexpr double kEnrolmentDays = 1;

int ReportToken(const absl::Status& status) {
  if (status.ok()) return 0;
  fmt::print(stderr, "loupe-coordinator: {}\n", std::string(status.message()));
  return 1;
}

// By which other machines call the coordinator of this folder.
absl::StatusOr<std::string> AddressOf(const std::string& data_folder) {
  absl::StatusOr<std::string> text = ReadFile(data_folder + "/address");
  if (!text.ok()) {
    return absl::FailedPreconditionError(fmt::format(
        "no coordinator runs on '{}', so that its address is not known: give --address host:port", data_folder));
  }
  const std::string address = text->substr(0, text->find('\n'));
  const std::string host = address.substr(0, address.rfind(':'));
  if (host != "0.0.0.0" && host != "[::]" && !host.empty()) return address;
  char name[256] = {};
  ::gethostname(name, sizeof name - 1);
  return fmt::format("{}{}", name, address.substr(address.rfind(':')));
}

absl::Status Add(const std::string& data_folder, const AddFlags& flags) {
  LOUPE_ASSIGN_OR_RETURN(const access::Role role, access::ParseRole(flags.role));
  const double days = flags.days >= 0 ? flags.days : role == access::Role::kEnrol ? kEnrolmentDays : 0;
  const access::NewTokenOptions options{.lifetime = days == 0 ? absl::InfiniteDuration() : absl::Hours(24) * days,
                                        .uses = flags.uses};
  Credentials credentials{.comment = fmt::format("'{}' ({})", flags.name, flags.role), .address = flags.address};
  if (!flags.output.empty()) {
    // Everything that can fail before the token is made.
    if (credentials.address.empty()) {
      LOUPE_ASSIGN_OR_RETURN(credentials.address, AddressOf(data_folder));
    }
    const absl::StatusOr<access::Authority> authority = access::Authority::Open(data_folder);
    if (authority.ok()) {
      LOUPE_ASSIGN_OR_RETURN(const access::Certificate made, authority->IssueClient(flags.name, options.lifetime));
      credentials.certificate = made.certificate;
      credentials.key = made.key;
      credentials.authority = authority->certificate();
    } else if (!absl::IsNotFound(authority.status())) {
      return authority.status();
    }
  }
  LOUPE_ASSIGN_OR_RETURN(const std::string token,
                         access::AccessControl::AddToken(data_folder, flags.name, role, options, SystemClock()));
  if (flags.output.empty()) {
    fmt::print("{}\n", token);
    return absl::OkStatus();
  }
  credentials.token = token;
  if (absl::Status written = WritePrivateFile(flags.output, ToText(credentials)); !written.ok()) {
    access::AccessControl::RemoveToken(data_folder, flags.name).IgnoreError();
    return written;
  }
  fmt::print(stderr, "'{}' is for {}{}\n", flags.output, credentials.address,
             credentials.key.empty()
                 ? "; no certificates are in it, since this coordinator issues none (it listens on loopback)"
                 : "");
  return absl::OkStatus();
}

absl::Status List(const std::string& data_folder) {
  LOUPE_ASSIGN_OR_RETURN(const std::vector<access::TokenEntry> entries, access::ReadTokens(data_folder));
  for (const access::TokenEntry& entry : entries) {
    fmt::print("{}  {}  {}{}{}\n", entry.name, access::NameOf(entry.role),
               entry.expiry == 0
                   ? "never expires"
                   : "until " + absl::FormatTime("%Y-%m-%d %H:%M UTC", absl::FromUnixSeconds(entry.expiry),
                                                 absl::UTCTimeZone()),
               entry.uses == access::TokenEntry::kAnyNumber ? "" : fmt::format("  enrols {} more", entry.uses),
               entry.by.empty() ? "" : fmt::format("  enrolled by {}", entry.by));
  }
  return absl::OkStatus();
}

}  // namespace

void AddTokenCommand(CLI::App& app, const std::string& data_folder, int& exit_code) {
  CLI::App* token = app.add_subcommand("token", "Add, list or revoke access tokens");
  token->require_subcommand(1);
  const auto flags = std::make_shared<AddFlags>();
  CLI::App* add =
      token->add_subcommand("add", "Print a new token, or write a credentials file; only the token's digest is kept");
  add->add_option("--name", flags->name, "Whose it is")->required();
  add->add_option("--role", flags->role,
                  "viewer, submitter, worker, admin, or enrol (gives workers tokens of their own)")
      ->required();
  add->add_option("--days", flags->days, "Days until it expires; 0 means never (default: 1 for enrol, else never)")
      ->check(CLI::Range(0.0, 36500.0));
  add->add_option("--uses", flags->uses, "For enrol: how many workers it may enrol")
      ->check(CLI::Range(int64_t{1}, int64_t{1000000}))
      ->capture_default_str();
  add->add_option(
      "--output,-o", flags->output,
      "Write a credentials file (address, token, certificates) for --credentials instead of printing the token");
  add->add_option("--address", flags->address,
                  "With -o: the coordinator's host:port as others see it (default: this machine's name)");
  add->callback([&data_folder, flags, &exit_code] {
    ::umask(077);
    exit_code = ReportToken(Add(data_folder, *flags));
  });
  token->add_subcommand("list", "Names, roles and ends of all tokens")->callback([&data_folder, &exit_code] {
    exit_code = ReportToken(List(data_folder));
  });
  CLI::App* revoke = token->add_subcommand("revoke", "Remove a token, at once; open streams end within a second");
  const auto name = std::make_shared<std::string>();
  revoke->add_option("--name", *name, "Whose it is; workers/ID for an enrolled worker's")->required();
  revoke->callback([&data_folder, name, &exit_code] {
    ::umask(077);
    exit_code = ReportToken(access::AccessControl::RemoveToken(data_folder, *name));
  });
}

}  // namespace loupe::coordinator
