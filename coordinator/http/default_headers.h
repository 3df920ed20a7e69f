// What every answer says besides its own headers: how browsers are to treat it.
#pragma once

#include <string>
#include <string_view>

#include "coordinator/http/exchange.h"

namespace loupe::coordinator::http {

// Nothing but this coordinator's own files, run as they are: no inline script, no other host, no frame around it.
inline constexpr std::string_view kPagePolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
// For what is no page, and for what others made (artifacts, reports): a browser that shows it runs nothing in it.
inline constexpr std::string_view kDataPolicy = "default-src 'none'; sandbox; frame-ancestors 'none'";

// "Not Found"
std::string_view ReasonPhrase(int status);

// Appends Date, and "Name: value\r\n" for each that `response` does not set itself: Content-Security-Policy
// (kDataPolicy), Cache-Control (no-store), X-Content-Type-Options, Referrer-Policy, Cross-Origin-Resource-Policy.
void AppendDefaultHeaders(const Response& response, std::string& head);

}  // namespace loupe::coordinator::http
