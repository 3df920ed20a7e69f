#include "coordinator/http/sign_in.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>

#include "absl/strings/ascii.h"
#include "coordinator/api/call.h"
#include "coordinator/http/errors.h"
#include "fmt/format.h"

namespace loupe::coordinator::http {
namespace {

constexpr std::string_view kBearer = "Bearer ";

// Of "a=1; b=2".
std::string_view CookieIn(std::string_view header, std::string_view name) {
  while (!header.empty()) {
    std::string_view part = header.substr(0, header.find(';'));
    header.remove_prefix(std::min(header.size(), part.size() + 1));
    while (part.starts_with(' ')) part.remove_prefix(1);
    if (part.size() > name.size() && part.starts_with(name) && part[name.size()] == '=')
      return part.substr(name.size() + 1);
  }
  return {};
}

bool FromAnotherSite(const Request& request) {
  const std::string_view site = request.Header("sec-fetch-site");
  if (!site.empty() && site != "same-origin" && site != "none") return true;
  std::string_view origin = request.Header("origin");
  if (origin.empty()) return false;
  const std::string_view scheme = request.tls ? "https://" : "http://";
  return !origin.starts_with(scheme) || origin.substr(scheme.size()) != request.Header("host");
}

// What can stand in a cookie as it is: tokens are letters, digits and '-'.
bool FitsCookie(std::string_view token) {
  return !token.empty() && token.size() <= 512 &&
         token.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~+/=") ==
             std::string_view::npos;
}

std::string Cookie(int port, std::string_view token, bool tls) {
  return fmt::format("{}={}; Path=/; HttpOnly; SameSite=Strict{}{}", CookieName(port), token,
                     token.empty() ? "; Max-Age=0" : "", tls ? "; Secure" : "");
}

}  // namespace

std::string CookieName(int port) { return fmt::format("loupe_{}", port); }

api::CallOrigin OriginOf(const Request& request, int port) {
  api::CallOrigin origin{.authorization = std::string(request.Header("authorization")),
                         .machine = request.machine,
                         .traceparent = std::string(request.Header(loupe::trace::kTraceparent))};
  if (origin.authorization.empty() && !FromAnotherSite(request)) {
    const std::string_view token = CookieIn(request.Header("cookie"), CookieName(port));
    if (!token.empty()) origin.authorization = fmt::format("{}{}", kBearer, token);
  }
  return origin;
}

Response AnswerSession(const api::Backend& backend, const Request& request, int port) {
  api::CallOrigin origin = OriginOf(request, port);
  if (request.method == "DELETE") {
    return {.status = 204, .headers = {{"Set-Cookie", Cookie(port, "", request.tls)}}, .body = ""};
  }
  std::string token;
  if (request.method == "POST") {
    const nlohmann::json body = nlohmann::json::parse(request.body, nullptr, /*allow_exceptions=*/false);
    const auto given = body.is_object() ? body.find("token") : body.end();
    if (!body.is_object() || given == body.end() || !given->is_string() || FromAnotherSite(request)) {
      return ErrorResponse(
          absl::InvalidArgumentError("expected {\"token\": \"…\"}, from this coordinator's own page or from no page"));
    }
    // As people copy it from a file.
    token = std::string(absl::StripAsciiWhitespace(given->get<std::string>()));
    origin.authorization = fmt::format("{}{}", kBearer, token);
  }
  const absl::StatusOr<access::Caller> caller = api::Identify(backend, origin);
  if (request.method == "POST") api::Audit(backend, caller, "signed in", request.machine, caller.status());
  if (!caller.ok()) return ErrorResponse(caller.status());
  if (request.method == "POST") {
    if (!FitsCookie(token)) return ErrorResponse(absl::InvalidArgumentError("this token does not fit into a cookie"));
    return {.status = 204, .headers = {{"Set-Cookie", Cookie(port, token, request.tls)}}, .body = ""};
  }
  const nlohmann::json who = {{"name", caller->name}, {"role", access::NameOf(caller->role)}};
  return {.status = 200, .headers = {{"Content-Type", "application/json"}}, .body = who.dump() + "\n"};
}

}  // namespace loupe::coordinator::http
