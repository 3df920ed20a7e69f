// A channel to one coordinator, with the token and the deadlines that every call carries.
//
//   LOUPE_ASSIGN_OR_RETURN(const ConnectOptions options, ResolveConnectOptions(flags));
//   LOUPE_ASSIGN_OR_RETURN(const std::shared_ptr<Connection> connection, Connection::Open(options));
//   auto stub = v1::SweepService::NewStub(connection->channel());
//   grpc::ClientContext context;
//   connection->Prepare(context);
//   LOUPE_RETURN_IF_ERROR(connection->Check(stub->GetSweep(&context, request, &sweep)));
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/status.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "clients/rpc/proxy.h"

namespace loupe::clients::rpc {

inline constexpr char kDefaultAddress[] = "127.0.0.1:7117";
inline constexpr absl::Duration kDefaultDeadline = absl::Seconds(20);

struct ConnectOptions {
  // "host:port". Empty in ResolveConnectOptions' argument means LOUPE_ADDRESS, or else kDefaultAddress.
  std::string address;
  // The bearer token itself. Never logged.
  std::string token;
  // A file that holds the token on its first line (the coordinator's DATA/token). Used where `token` is empty.
  std::string token_file;
  // PEM files. A CA file turns TLS on; certificate and key together present a client's certificate (mutual TLS).
  std::string ca_file;
  std::string certificate_file;
  std::string key_file;
  // A credentials file (common/credentials.h): address, token and certificates in one. What is given besides wins. Its
  // certificates and its token are read again when the file is replaced.
  std::string credentials_file;
};

// Fills what the flags left empty from the environment: LOUPE_ADDRESS, LOUPE_TOKEN, LOUPE_TOKEN_FILE, LOUPE_CA_FILE,
// LOUPE_CERT_FILE, LOUPE_KEY_FILE, LOUPE_CREDENTIALS; then reads credentials and token file. NOT_FOUND or
// PERMISSION_DENIED names a file that cannot be read; INVALID_ARGUMENT one without a token (see TokenIn in
// common/text.h). No token at all is allowed (the coordinator will refuse if it wants one).
absl::StatusOr<ConnectOptions> ResolveConnectOptions(ConnectOptions flags);

// Thread-safe. Holds the channel; stubs are cheap and made from it.
class Connection {
 public:
  // Makes the channel (lazily connected: nothing is sent yet), through a proxy where proxy.h says so. INVALID_ARGUMENT
  // for an address that is not host:port, a token that no header can carry (never shown) and a proxy that gRPC cannot
  // use; NOT_FOUND for a PEM file that is not there.
  static absl::StatusOr<std::shared_ptr<Connection>> Open(const ConnectOptions& options);

  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }
  const std::string& address() const { return address_; }

  // Adds the token and the deadline. Give streaming calls absl::InfiniteDuration().
  void Prepare(grpc::ClientContext& context, absl::Duration deadline = kDefaultDeadline) const;

  // FromGrpcStatus, plus what to do: UNAVAILABLE (unless the coordinator itself said so) names the address, what was
  // tried (the families of its addresses, the proxy, whether TLS was on) and how to start a coordinator, or where TLS
  // failed, over what: the name, the certificate, or one side that speaks none. UNAUTHENTICATED says where the token is
  // looked for. After UNAUTHENTICATED the token file, if there is one, is read again for the next call: a token is
  // renewed by replacing its file.
  absl::Status Check(const grpc::Status& status) const;

  // Waits until the coordinator answers or `timeout` has passed (UNAVAILABLE, as Check words it).
  absl::Status WaitUntilConnected(absl::Duration timeout) const;

 private:
  Connection(const ConnectOptions& options, const std::optional<Proxy>& proxy, std::shared_ptr<grpc::Channel> channel);
  void ReadTokenAgain() const;
  std::string HowItWasTried() const;
  // What went wrong and what to do, by gRPC's words for it; empty when TLS was not the trouble.
  std::string TlsTrouble(std::string_view message) const;

  const std::string address_;
  const std::string proxy_;             // for messages; empty without one
  const std::string ca_file_;           // TLS is on where there is one
  const std::string certificate_file_;  // the client's; empty without one
  const std::string token_file_;
  const std::string credentials_file_;
  mutable std::mutex mutex_;
  mutable std::string token_;
  mutable std::optional<std::string> looked_up_;  // what the address means, at the first failure
  const std::shared_ptr<grpc::Channel> channel_;
};

}  // namespace loupe::clients::rpc
