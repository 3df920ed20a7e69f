// absl::Status as HTTP: Connect's codes, statuses and JSON form (connectrpc.com/docs/protocol, "Unary errors").
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "coordinator/http/exchange.h"

namespace loupe::coordinator::http {

// "not_found"
std::string_view ConnectCode(absl::StatusCode code);
// 404
int HttpStatus(absl::StatusCode code);

// {"code":"not_found","message":"…","details":[{"type":"google.rpc.ErrorInfo","value":"base64","debug":{…}}]}, with
// Retry-After where the status says how long to wait. `status` is not OK.
Response ErrorResponse(const absl::Status& status);

// For what is no method's own answer: the same form under another HTTP status.
Response ErrorResponse(const absl::Status& status, int http_status);

}  // namespace loupe::coordinator::http
