#include "clients/rpc/connection.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>
#include <grpcpp/support/channel_arguments.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <utility>

#include "absl/strings/ascii.h"
#include "clients/rpc/call_trace.h"
#include "clients/rpc/proxy.h"
#include "clients/rpc/rpc_status.h"
#include "common/atomic_file.h"
#include "common/credentials.h"
#include "common/error_details.h"
#include "common/status_macros.h"
#include "common/text.h"
#include "common/trace/trace_context.h"
#include "fmt/format.h"

namespace loupe::clients::rpc {
namespace {

void FillFromEnvironment(std::string& value, const char* variable) {
  if (!value.empty()) return;
  if (const char* found = std::getenv(variable); found != nullptr) value = found;
}

absl::StatusOr<std::string> TokenOfFile(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  return TokenIn(text, fmt::format("token file '{}'", path));
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
  if (options.ca_file == options.credentials_file) {
    // gRPC looks at the file again by itself: a renewed certificate needs no new channel.
    constexpr unsigned kWatchSeconds = 10;
    const std::string& file = options.credentials_file;
    grpc::experimental::TlsChannelCredentialsOptions tls;
    tls.set_certificate_provider(
        std::make_shared<grpc::experimental::FileWatcherCertificateProvider>(file, file, file, kWatchSeconds));
    tls.watch_root_certs();
    tls.watch_identity_key_cert_pairs();
    return grpc::experimental::TlsCredentials(tls);
  }
  grpc::SslCredentialsOptions ssl;
  LOUPE_ASSIGN_OR_RETURN(ssl.pem_root_certs, ReadFile(options.ca_file));
  if (!options.certificate_file.empty()) {
    LOUPE_ASSIGN_OR_RETURN(ssl.pem_cert_chain, ReadFile(options.certificate_file));
    LOUPE_ASSIGN_OR_RETURN(ssl.pem_private_key, ReadFile(options.key_file));
  }
  return grpc::SslCredentials(ssl);
}

// What is set already stays.
absl::Status FillFromCredentials(ConnectOptions& options) {
  LOUPE_ASSIGN_OR_RETURN(const Credentials credentials, ReadCredentials(options.credentials_file));
  if (options.address.empty()) options.address = credentials.address;
  if (options.token.empty() && options.token_file.empty()) options.token = credentials.token;
  if (!credentials.key.empty() && options.ca_file.empty() && options.certificate_file.empty()) {
    options.ca_file = options.certificate_file = options.key_file = options.credentials_file;
  }
  return absl::OkStatus();
}

// Set before there are calls, and read by them.
std::string& CallTraceparent() {
  static auto* traceparent = new std::string;
  return *traceparent;
}
std::atomic<bool> calls_were_traced{false};

bool IsHostPort(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == address.size()) return false;
  if (address.find_first_not_of("0123456789", colon + 1) != std::string::npos) return false;
  return std::all_of(address.begin(), address.end(),
                     [](char c) { return absl::ascii_isgraph(static_cast<unsigned char>(c)) && c != '/'; });
}

}  // namespace

absl::StatusOr<ConnectOptions> ResolveConnectOptions(ConnectOptions flags) {
  // A credentials file given as a flag wins over single things in the environment, and these over a credentials file
  // there.
  if (!flags.credentials_file.empty()) LOUPE_RETURN_IF_ERROR(FillFromCredentials(flags));
  FillFromEnvironment(flags.address, "LOUPE_ADDRESS");
  FillFromEnvironment(flags.ca_file, "LOUPE_CA_FILE");
  FillFromEnvironment(flags.certificate_file, "LOUPE_CERT_FILE");
  FillFromEnvironment(flags.key_file, "LOUPE_KEY_FILE");
  if (flags.token_file.empty()) FillFromEnvironment(flags.token, "LOUPE_TOKEN");
  if (flags.token.empty()) FillFromEnvironment(flags.token_file, "LOUPE_TOKEN_FILE");
  if (flags.credentials_file.empty()) {
    FillFromEnvironment(flags.credentials_file, "LOUPE_CREDENTIALS");
    if (!flags.credentials_file.empty()) LOUPE_RETURN_IF_ERROR(FillFromCredentials(flags));
  }
  if (flags.address.empty()) flags.address = kDefaultAddress;
  if (!flags.token.empty()) flags.token_file.clear();
  if (flags.token.empty() && !flags.token_file.empty()) {
    LOUPE_ASSIGN_OR_RETURN(flags.token, TokenOfFile(flags.token_file));
  }
  return flags;
}

absl::StatusOr<std::shared_ptr<Connection>> Connection::Open(const ConnectOptions& options) {
  if (!IsHostPort(options.address)) {
    return absl::InvalidArgumentError(fmt::format("'{}' is not a coordinator's address: expected host:port, such as {}",
                                                  options.address, kDefaultAddress));
  }
  ConnectOptions checked = options;
  if (!options.token.empty()) {
    // gRPC ends the process over a header that HTTP cannot carry, and prints it.
    LOUPE_ASSIGN_OR_RETURN(
        checked.token, TokenIn(options.token, options.token_file.empty() ? "the access token" : options.token_file));
  }
  LOUPE_ASSIGN_OR_RETURN(const std::optional<Proxy> proxy, ProxyFor(options.address));
  LOUPE_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::ChannelCredentials> credentials, MakeCredentials(options));
  grpc::ChannelArguments arguments;
  // A coordinator that restarts should be found again quickly; gRPC's own default waits up to two minutes.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 3000);
  // In spite of its name: how long one attempt may take. A busy machine, or TLS over a long way, needs more than a
  // moment.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 10000);
  // Notices a peer that vanished without a word. The coordinator permits one ping in ten seconds.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 20000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10000);
  // Connections of one process to several coordinators, and of tests, must not share state.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // gRPC would send loopback addresses to a proxy too, and reads no networks in no_proxy.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, proxy ? 1 : 0);
  if (proxy) arguments.SetString(GRPC_ARG_HTTP_PROXY, proxy->url);
  return std::shared_ptr<Connection>(
      new Connection(checked, proxy, grpc::CreateCustomChannel(options.address, credentials, arguments)));
}

Connection::Connection(const ConnectOptions& options, const std::optional<Proxy>& proxy,
                       std::shared_ptr<grpc::Channel> channel)
    : address_(options.address),
      proxy_(proxy ? fmt::format("the proxy {} of {} (no_proxy makes exceptions)", proxy->shown, proxy->variable) : ""),
      ca_file_(options.ca_file),
      certificate_file_(options.certificate_file),
      token_file_(options.token_file),
      credentials_file_(options.credentials_file),
      token_(options.token),
      channel_(std::move(channel)) {}

void Connection::ReadTokenAgain() const {
  absl::StatusOr<std::string> token = absl::NotFoundError("");
  if (!token_file_.empty()) {
    token = TokenOfFile(token_file_);
  } else if (!credentials_file_.empty()) {
    if (const absl::StatusOr<Credentials> credentials = ReadCredentials(credentials_file_); credentials.ok()) {
      token = TokenIn(credentials->token, credentials_file_);
    }
  }
  if (!token.ok()) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  token_ = *std::move(token);
}

void SetCallTraceparent(std::string traceparent) { CallTraceparent() = std::move(traceparent); }

bool CallsWereTraced() { return calls_were_traced; }

void Connection::Prepare(grpc::ClientContext& context, absl::Duration deadline) const {
  if (const std::string& traceparent = CallTraceparent(); !traceparent.empty()) {
    context.AddMetadata(trace::kTraceparent, traceparent);
    calls_were_traced = true;
  }
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
      if (const std::string trouble = TlsTrouble(status.error_message()); !trouble.empty()) {
        return Annotate(converted, fmt::format("no connection to the coordinator at {}: {}; {}", address_,
                                               HowItWasTried(), trouble));
      }
      return Annotate(converted,
                      fmt::format("no coordinator answers at {}: {} (start one with 'loupe up', or give its address "
                                  "with --address or LOUPE_ADDRESS)",
                                  address_, HowItWasTried()));
    case absl::StatusCode::kUnauthenticated:
      ReadTokenAgain();
      return Annotate(converted,
                      fmt::format("the coordinator at {} refused the token (give --token-file DATA/token, or set "
                                  "LOUPE_TOKEN or LOUPE_TOKEN_FILE)",
                                  address_));
    default:
      return converted;
  }
}

std::string Connection::HowItWasTried() const {
  std::string where = proxy_;  // a proxy looks names up itself
  if (where.empty()) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!looked_up_) looked_up_ = AddressesOf(address_);
    where = looked_up_->empty() ? "a name that no server knows" : *looked_up_;
  }
  return fmt::format("tried {} {} TLS", where, ca_file_.empty() ? "without" : "with");
}

std::string Connection::TlsTrouble(std::string_view message) const {
  const auto says = [&](std::string_view words) { return message.find(words) != std::string_view::npos; };
  constexpr std::string_view kGetCredentials =
      "get credentials from the coordinator's machine with 'loupe-coordinator token add -o FILE' and give them with "
      "--credentials FILE";
  if (says("Peer name") || says("Hostname Verification Check failed")) {
    const std::string host = address_.substr(0, address_.rfind(':'));
    return fmt::format(
        "TLS failed over the name: the coordinator's certificate is not for '{0}' (use a name that it is for, or start the "
        "coordinator with --tls-name {0})",
        host);
  }
  if (says("certificate verify failed") || says("Custom verification check failed")) {
    return fmt::format(
        "TLS failed over the coordinator's certificate: it has expired, is not valid yet, or is not signed by an authority in '{}' ({})",
        ca_file_, kGetCredentials);
  }
  if (says("andshake failed")) {
    return "TLS failed: what answers there does not speak TLS (leave out --credentials, LOUPE_CREDENTIALS and LOUPE_CA_FILE "
           "if it is a coordinator without TLS)";
  }
  // A server that is not content with what it is shown ends the connection without a word.
  if (!says("Socket closed") && !says("Connection reset") && !says("onnection closed")) return "";
  if (ca_file_.empty()) return fmt::format("it ended the connection: it may want TLS ({})", kGetCredentials);
  if (certificate_file_.empty())
    return fmt::format("it ended the connection after TLS began: it may want a client's certificate ({})",
                       kGetCredentials);
  return fmt::format(
      "it ended the connection after TLS began: the client's certificate in '{}' may have expired or be of an authority that it does not "
      "know ({})",
      certificate_file_, kGetCredentials);
}

absl::Status Connection::WaitUntilConnected(absl::Duration timeout) const {
  if (channel_->WaitForConnected(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(timeout))) {
    return absl::OkStatus();
  }
  return Check(grpc::Status(grpc::StatusCode::UNAVAILABLE,
                            fmt::format("no connection within {}", absl::FormatDuration(timeout))));
}

}  // namespace loupe::clients::rpc
