#include "cli/connect.h"

#include <algorithm>
#include <cstdlib>

#include "CLI/Config.hpp"
#include "CLI/Formatter.hpp"
#include "absl/strings/ascii.h"
#include "common/atomic_file.h"
#include "common/status_macros.h"

namespace loupe::cli {
namespace {

bool IsSet(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr && *value != '\0';
}

}  // namespace

void AddConnectOptions(CLI::App& command, ConnectFlags& flags) {
  constexpr char kGroup[] = "Connection";
  command
      .add_option("--address", flags.options.address,
                  "The coordinator's host:port; default: LOUPE_ADDRESS, else the running 'loupe up' of --data, else " +
                      std::string(clients::rpc::kDefaultAddress))
      ->group(kGroup);
  command.add_option("--data", flags.data, "Folder of a local 'loupe up', where its address and token are")
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_option("--token-file", flags.options.token_file,
                  "File with the access token; default: LOUPE_TOKEN, LOUPE_TOKEN_FILE, or DATA/token")
      ->group(kGroup);
  command
      .add_option("--credentials", flags.options.credentials_file,
                  "Credentials file: address, token and certificates in one (default: LOUPE_CREDENTIALS)")
      ->group(kGroup);
  command.add_option("--ca-file", flags.options.ca_file, "PEM file of the authority to trust: turns TLS on")
      ->group(kGroup);
  command.add_option("--cert-file", flags.options.certificate_file, "PEM file of this client's certificate")
      ->group(kGroup);
  command.add_option("--key-file", flags.options.key_file, "PEM file of this client's key")->group(kGroup);
}

std::vector<std::string> WithConnectOptionsBehind(std::vector<std::string> arguments) {
  CLI::App known;
  ConnectFlags unused;
  AddConnectOptions(known, unused);
  std::vector<std::string> moved;
  size_t at = 0;
  while (at < arguments.size() && arguments[at].starts_with("--")) {
    const std::string& argument = arguments[at];
    const size_t equals = argument.find('=');
    if (known.get_option_no_throw(argument.substr(0, equals)) == nullptr || argument.starts_with("--help")) break;
    const size_t length = equals == std::string::npos && at + 1 < arguments.size() ? 2 : 1;
    moved.insert(moved.end(), arguments.begin() + static_cast<ptrdiff_t>(at),
                 arguments.begin() + static_cast<ptrdiff_t>(at + length));
    at += length;
  }
  if (at == 0 || at == arguments.size()) return arguments;  // none, or no subcommand to move them behind
  // Behind all words in front of its first option: some subcommands have subcommands of their own.
  const auto subcommand = arguments.begin() + static_cast<ptrdiff_t>(at);
  const auto first_option =
      std::find_if(subcommand, arguments.end(), [](const std::string& word) { return word.starts_with("-"); });
  std::vector<std::string> ordered(subcommand, first_option);
  ordered.insert(ordered.end(), moved.begin(), moved.end());
  ordered.insert(ordered.end(), first_option, arguments.end());
  return ordered;
}

absl::StatusOr<clients::rpc::ConnectOptions> ResolveFlags(const ConnectFlags& flags) {
  clients::rpc::ConnectOptions options = flags.options;
  const bool elsewhere = !options.address.empty() || IsSet("LOUPE_ADDRESS") || !options.credentials_file.empty() ||
                         IsSet("LOUPE_CREDENTIALS");
  if (const std::string local = flags.data + "/" + kCredentialsFile;
      !elsewhere && options.ca_file.empty() && ReadFile(local).ok()) {
    options.credentials_file = local;
    return clients::rpc::ResolveConnectOptions(std::move(options));
  }
  if (!elsewhere) {
    const absl::StatusOr<std::string> address = ReadFile(flags.data + "/" + kAddressFile);
    if (address.ok()) options.address = std::string(absl::StripAsciiWhitespace(*address));
    const bool has_token = !options.token_file.empty() || IsSet("LOUPE_TOKEN") || IsSet("LOUPE_TOKEN_FILE");
    const std::string token_file = flags.data + "/" + kTokenFile;
    if (!has_token && ReadFile(token_file).ok()) options.token_file = token_file;
  }
  return clients::rpc::ResolveConnectOptions(std::move(options));
}

absl::StatusOr<std::shared_ptr<clients::rpc::Connection>> Connect(const ConnectFlags& flags) {
  LOUPE_ASSIGN_OR_RETURN(const clients::rpc::ConnectOptions options, ResolveFlags(flags));
  return clients::rpc::Connection::Open(options);
}

}  // namespace loupe::cli
