// HTTP/2 rapid reset (CVE-2023-44487) against programs of this machine: streams are opened and reset at once, as fast
// as the socket takes them, without a token and without a certificate.
#pragma once

#include <cstdint>
#include <string>

namespace loupe::testing {

struct RapidResetResult {
  // Streams opened and reset, of all connections.
  int64_t streams = 0;
  int64_t connections = 0;
  // Whether the other side ever spoke HTTP/2: sent its SETTINGS.
  bool reached_http2 = false;
};

// Attacks 127.0.0.1:`port` from 127.0.0.2 for `seconds`, with one connection at a time; one that is closed is replaced.
// `tls`: behind a TLS handshake that shows no certificate and checks none.
RapidResetResult RapidReset(int port, bool tls, double seconds);

}  // namespace loupe::testing
