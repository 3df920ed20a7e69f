#include "coordinator/http/tls_context.h"

#include <sys/stat.h>

#include <cerrno>
#include <string>

#include "absl/status/status.h"
#include "fmt/format.h"

namespace loupe::coordinator::http {

namespace ssl = boost::asio::ssl;

absl::StatusOr<std::shared_ptr<ssl::context>> TlsContext::Get() {
  if (!tls_.on()) return nullptr;
  struct stat info {};
  const std::string path = tls_.identity_file();
  if (::stat(path.c_str(), &info) != 0) return absl::ErrnoToStatus(errno, fmt::format("cannot read '{}'", path));
  const auto version = std::make_pair(info.st_ino, info.st_mtim.tv_sec * 1'000'000'000 + info.st_mtim.tv_nsec);
  if (context_ != nullptr && version == version_) return context_;
  auto made = std::make_shared<ssl::context>(ssl::context::tls_server);
  boost::system::error_code error;
  made->set_options(ssl::context::default_workarounds | ssl::context::no_sslv2 | ssl::context::no_sslv3 |
                        ssl::context::no_tlsv1 | ssl::context::no_tlsv1_1,
                    error);
  if (!error) made->use_certificate_chain_file(path, error);
  if (!error) made->use_private_key_file(path, ssl::context::pem, error);
  if (const std::string roots = tls_.client_roots_file(); !error && !roots.empty()) {
    made->load_verify_file(roots, error);
    if (!error) made->set_verify_mode(ssl::verify_peer | ssl::verify_fail_if_no_peer_cert, error);
  }
  if (error) return absl::InternalError(fmt::format("TLS cannot use '{}': {}", path, error.message()));
  version_ = version;
  context_ = std::move(made);
  return context_;
}

}  // namespace loupe::coordinator::http
