// The coordinator's certificate as OpenSSL wants it, made again when its file has changed.
#pragma once

#include <sys/types.h>

#include <boost/asio/ssl/context.hpp>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "coordinator/access/server_tls.h"

namespace loupe::coordinator::http {

// Of one thread, as asio's contexts are.
class TlsContext {
 public:
  // `tls` must live as long.
  explicit TlsContext(const access::ServerTls& tls) : tls_(tls) {}

  // Null where TLS is off. What cannot be read is an error (by the file's errno, or INTERNAL by OpenSSL's word) and
  // leaves the last good one.
  absl::StatusOr<std::shared_ptr<boost::asio::ssl::context>> Get();
  std::shared_ptr<boost::asio::ssl::context> last() const { return context_; }

 private:
  const access::ServerTls& tls_;
  std::pair<ino_t, int64_t> version_;
  std::shared_ptr<boost::asio::ssl::context> context_;
};

}  // namespace loupe::coordinator::http
