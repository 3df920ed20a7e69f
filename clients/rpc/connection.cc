#include "clients/rpc/connection.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <chrono>
#include <cstdlib>
#include <utility>

#include "clients/rpc/rpc_status.h"
#include "common/atomic_file.h"
#include "common/error_details.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe {
namespace {

void FillFromEnvironment(std::string& value, const char* variable) {
  if (!value.empty()) return;
  if (const char* found = std::getenv(variable); found != nullptr) value = found;
}

absl::StatusOr<std::string> FirstLineOf(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  std::string line = text.substr(0, text.find_first_of("\r\n"));
  if (line.empty()) {
    return absl::InvalidArgumentError(fmt::format("token file '{}' is empty: expected the token on its first line", path));
  }
  return line;
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeCredentials(const ConnectOptions& options) {
  if (options.certificate_file.empty() != options.key_file.empty()) {
    return absl::InvalidArgumentError("a client certificate needs both its certificate file and its key file");
  }
  if (options.ca_file.empty()) {
    if (!options.certificate_file.empty()) {
      return absl::InvalidArgumentError("a client certificate was given without a CA file: TLS needs both");
    }
    return grpc::InsecureChannelCredentials();
  }
  grpc::SslCredentialsOptions ssl;
  LOUPE_ASSIGN_OR_RETURN(ssl.pem_root_certs, ReadFile(options.ca_file));
  if (!options.certificate_file.empty()) {
    LOUPE_ASSIGN_OR_RETURN(ssl.pem_cert_chain, ReadFile(options.certificate_file));
    LOUPE_ASSIGN_OR_RETURN(ssl.pem_private_key, ReadFile(options.key_file));
  }
  return grpc::SslCredentials(ssl);
}

bool IsHostPort(const std::string& address) {
  const size_t colon = address.rfind(':');
  return colon != std::string::npos && colon > 0 && colon + 1 < address.size() &&
         address.find_first_not_of("0123456789", colon + 1) == std::string::npos;
}

}  // namespace

absl::StatusOr<ConnectOptions> ResolveConnectOptions(ConnectOptions flags) {
  FillFromEnvironment(flags.address, "LOUPE_ADDRESS");
  if (flags.address.empty()) flags.address = kDefaultAddress;
  // A token file given as a flag wins over a token in the environment.
  if (flags.token_file.empty()) FillFromEnvironment(flags.token, "LOUPE_TOKEN");
  if (flags.token.empty()) {
    FillFromEnvironment(flags.token_file, "LOUPE_TOKEN_FILE");
  } else {
    flags.token_file.clear();
  }
  FillFromEnvironment(flags.ca_file, "LOUPE_CA_FILE");
  FillFromEnvironment(flags.certificate_file, "LOUPE_CERT_FILE");
  FillFromEnvironment(flags.key_file, "LOUPE_KEY_FILE");
  if (flags.token.empty() && !flags.token_file.empty()) {
    LOUPE_ASSIGN_OR_RETURN(flags.token, FirstLineOf(flags.token_file));
  }
  return flags;
}

absl::StatusOr<std::shared_ptr<Connection>> Connection::Open(const ConnectOptions& options) {
  if (!IsHostPort(options.address)) {
    return absl::InvalidArgumentError(
        fmt::format("'{}' is not a coordinator's address: expected host:port, such as {}", options.address, kDefaultAddress));
  }
  LOUPE_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::ChannelCredentials> credentials, MakeCredentials(options));
  grpc::ChannelArguments arguments;
  // A coordinator that restarts should be found again quickly; gRPC's own default waits up to two minutes.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 3000);
  // In spite of its name: how long one attempt may take. A busy machine, or TLS over a long way, needs more than a moment.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 10000);
  // Notices a peer that vanished without a word. The coordinator permits one ping in ten seconds.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 20000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10000);
  // Connections of one process to several coordinators, and of tests, must not share state.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return std::shared_ptr<Connection>(new Connection(
      options.address, options.token, options.token_file, grpc::CreateCustomChannel(options.address, credentials, arguments)));
}

Connection::Connection(std::string address, std::string token, std::string token_file, std::shared_ptr<grpc::Channel> channel)
    : address_(std::move(address)),
      token_file_(std::move(token_file)),
      token_(std::move(token)),
      channel_(std::move(channel)) {}

void Connection::ReadTokenAgain() const {
  if (token_file_.empty()) return;
  absl::StatusOr<std::string> token = FirstLineOf(token_file_);
  if (!token.ok()) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  token_ = *std::move(token);
}

void Connection::Prepare(grpc::ClientContext& context, absl::Duration deadline) const {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!token_.empty()) context.AddMetadata("authorization", "Bearer " + token_);
  }
  if (deadline != absl::InfiniteDuration()) {
    context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(deadline));
  }
}

absl::Status Connection::Check(const grpc::Status& status) const {
  const absl::Status converted = FromGrpcStatus(status);
  switch (converted.code()) {
    case absl::StatusCode::kUnavailable:
      // With a reason it is the coordinator's own answer.
      if (!ReasonOf(converted).empty()) return converted;
      return Annotate(converted, fmt::format("no coordinator answers at {} (start one with 'loupe up', or give its address "
                                             "with --address or LOUPE_ADDRESS)",
                                             address_));
    case absl::StatusCode::kUnauthenticated:
      ReadTokenAgain();
      return Annotate(converted, fmt::format("the coordinator at {} refused the token (give --token-file DATA/token, or set "
                                             "LOUPE_TOKEN or LOUPE_TOKEN_FILE)",
                                             address_));
    default:
      return converted;
  }
}

absl::Status Connection::WaitUntilConnected(absl::Duration timeout) const {
  if (channel_->WaitForConnected(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(timeout))) {
    return absl::OkStatus();
  }
  return Check(grpc::Status(grpc::StatusCode::UNAVAILABLE,
                            fmt::format("no connection within {}", absl::FormatDuration(timeout))));
}

}  // namespace loupe
