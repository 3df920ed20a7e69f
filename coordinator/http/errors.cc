#include "coordinator/http/errors.h"

#include <google/protobuf/util/json_util.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "common/error_details.h"
#include "coordinator/api/rpc_status.h"
// Links the messages that details are packed in.
#include "google/rpc/error_details.pb.h"

namespace loupe::coordinator::http {
namespace {

struct CodeRow {
  absl::StatusCode code;
  std::string_view name;
  int http;
};
constexpr CodeRow kCodes[] = {{absl::StatusCode::kCancelled, "canceled", 499},
                              {absl::StatusCode::kUnknown, "unknown", 500},
                              {absl::StatusCode::kInvalidArgument, "invalid_argument", 400},
                              {absl::StatusCode::kDeadlineExceeded, "deadline_exceeded", 504},
                              {absl::StatusCode::kNotFound, "not_found", 404},
                              {absl::StatusCode::kAlreadyExists, "already_exists", 409},
                              {absl::StatusCode::kPermissionDenied, "permission_denied", 403},
                              {absl::StatusCode::kResourceExhausted, "resource_exhausted", 429},
                              {absl::StatusCode::kFailedPrecondition, "failed_precondition", 400},
                              {absl::StatusCode::kAborted, "aborted", 409},
                              {absl::StatusCode::kOutOfRange, "out_of_range", 400},
                              {absl::StatusCode::kUnimplemented, "unimplemented", 501},
                              {absl::StatusCode::kInternal, "internal", 500},
                              {absl::StatusCode::kUnavailable, "unavailable", 503},
                              {absl::StatusCode::kDataLoss, "data_loss", 500},
                              {absl::StatusCode::kUnauthenticated, "unauthenticated", 401}};

const CodeRow& RowOf(absl::StatusCode code) {
  for (const CodeRow& row : kCodes) {
    if (row.code == code) return row;
  }
  return kCodes[1];
}

nlohmann::json DetailJson(const google::protobuf::Any& detail) {
  const std::string& url = detail.type_url();
  std::string value = absl::Base64Escape(detail.value());
  value.erase(value.find_last_not_of('=') + 1);
  nlohmann::json json = {{"type", url.substr(url.rfind('/') + 1)}, {"value", value}};
  std::string debug;
  if (google::protobuf::util::MessageToJsonString(detail, &debug).ok()) {
    nlohmann::json parsed = nlohmann::json::parse(debug, nullptr, /*allow_exceptions=*/false);
    if (parsed.is_object()) {
      parsed.erase("@type");
      json["debug"] = std::move(parsed);
    }
  }
  return json;
}

}  // namespace

std::string_view ConnectCode(absl::StatusCode code) { return RowOf(code).name; }

int HttpStatus(absl::StatusCode code) { return RowOf(code).http; }

Response ErrorResponse(const absl::Status& status) { return ErrorResponse(status, HttpStatus(status.code())); }

Response ErrorResponse(const absl::Status& status, int http_status) {
  const google::rpc::Status rpc = api::ToRpcStatus(status);
  nlohmann::json json = {{"code", ConnectCode(status.code())}, {"message", rpc.message()}};
  for (const google::protobuf::Any& detail : rpc.details()) json["details"].push_back(DetailJson(detail));
  Response response{.status = http_status, .headers = {{"Content-Type", "application/json"}}, .body = ""};
  if (const absl::Duration wait = RetryAfterOf(status); wait > absl::ZeroDuration()) {
    response.headers.emplace_back("Retry-After",
                                  std::to_string(static_cast<int64_t>(std::ceil(absl::ToDoubleSeconds(wait)))));
  }
  // A scheme must be named; browsers ask nothing for this one.
  if (http_status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer realm=\"loupe\"");
  response.body = json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  return response;
}

}  // namespace loupe::coordinator::http
