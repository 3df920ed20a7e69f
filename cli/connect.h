// Which coordinator a command talks to, and one call to it.
#pragma once

#include <grpcpp/client_context.h>

#include <memory>
#include <string>
#include <vector>

#include "CLI/App.hpp"
#include "absl/status/statusor.h"
#include "clients/rpc/connection.h"
#include "clients/rpc/message_text.h"

namespace loupe::cli {

// The folder of `loupe up`, relative to the working directory; it leaves its address and token there.
inline constexpr char kDefaultDataFolder[] = ".loupe";
inline constexpr char kAddressFile[] = "address";
inline constexpr char kTokenFile[] = "token";
// Left by a coordinator with TLS of its own; holds all that its clients need.
inline constexpr char kCredentialsFile[] = "credentials";

struct ConnectFlags {
  std::string data = kDefaultDataFolder;
  clients::rpc::ConnectOptions options;
};

// --address, --data, --credentials, --token-file, --ca-file, --cert-file, --key-file.
void AddConnectOptions(CLI::App& command, ConnectFlags& flags);

// The options of AddConnectOptions may also stand before the subcommand: `loupe --address HOST:PORT sweeps`. The
// arguments of main (without the program's name) with those moved behind it; a subcommand that has no such option
// refuses it as ever.
std::vector<std::string> WithConnectOptionsBehind(std::vector<std::string> arguments);

// Address: --address, else LOUPE_ADDRESS, else DATA/address (a running `loupe up`), else the default one. Token:
// --token-file, else LOUPE_TOKEN or LOUPE_TOKEN_FILE, else DATA/token; the last only for the address of DATA or the
// default one, so that a local token is not sent to another machine.
absl::StatusOr<clients::rpc::ConnectOptions> ResolveFlags(const ConnectFlags& flags);

// Opens the connection; nothing is sent yet.
absl::StatusOr<std::shared_ptr<clients::rpc::Connection>> Connect(const ConnectFlags& flags);

// One unary call. The error is Connection::Check's; INVALID_ARGUMENT, before anything is sent, for a request with text
// that is not UTF-8 (of an argument, or of a path), which no message can carry.
template <typename Stub, typename Request, typename Response>
absl::StatusOr<Response> Call(const clients::rpc::Connection& connection, Stub& stub,
                              grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                              const Request& request) {
  if (const std::string field = clients::rpc::FieldNotUtf8(request); !field.empty()) {
    return absl::InvalidArgumentError("the request's '" + field +
                                      "' is not UTF-8 text; is it an argument or a path in another encoding?");
  }
  grpc::ClientContext context;
  connection.Prepare(context);
  Response response;
  if (absl::Status status = connection.Check((stub.*method)(&context, request, &response)); !status.ok()) return status;
  return response;
}

// The same for each page of a list, from the first one on: take(Response&).
template <typename Stub, typename Request, typename Response, typename Take>
absl::Status CallForPages(const clients::rpc::Connection& connection, Stub& stub,
                          grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                          Request request, Take take) {
  do {
    absl::StatusOr<Response> page = Call(connection, stub, method, request);
    if (!page.ok()) return page.status();
    take(*page);
    request.set_page_token(page->next_page_token());
  } while (!request.page_token().empty());
  return absl::OkStatus();
}

}  // namespace loupe::cli
